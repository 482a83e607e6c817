"""Which default category a word or phrase of a description stands for, as data.

Everything is written as a normalised description has it (see `app.ml.features.normalise`): lower case, accents folded,
no apostrophes, no numbers of two digits and more, words separated by single spaces. Kinds of shops and payments only,
no brands: those are learnt. German, French, Spanish, Dutch and Italian words follow the English ones.

Of the phrases in a description the one with the most words wins, then the one listed first. So what is done (parking,
eating) stands before where it is done (hotel, hospital, university), and words that only say how money moves come last.
"""

from __future__ import annotations

from typing import Final

from app.ml.builtin_shop_words import SHOPS

# For any amount: a refund belongs where the purchase did.
SPENDING: Final[tuple[tuple[str, str], ...]] = (
    ("transfers.cash", """
        atm, cash withdrawal, cash withdrawl, cash machine, cashpoint, cash advance, atm withdrawal, cash,
        geldautomat, bargeld, bargeldauszahlung, barauszahlung, retrait, retrait dab, retrait especes, cajero,
        cajero automatico, retirada efectivo, retirada de efectivo, reintegro, prelievo, prelievo bancomat,
        geldopname, geldautomaat"""),
    ("finance.bank_fees", """
        atm fee, cash fee, cash advance fee, transaction fee, service fee, service charge, overdraft fee,
        account fee, monthly fee, annual fee, late fee, wire fee, exchange fee, maintenance fee, foreign
        transaction fee, non sterling transaction fee, non sterling cash fee, bank charge, bank charges,
        unpaid item, returned item fee, overdraft, kontofuhrung, kontofuehrung, kontofuhrungsgebuhr, entgelt,
        entgeltabschluss, rechnungsabschluss, kontoabschluss, frais bancaires, frais, cotisation carte,
        commission, comision, comisiones, commissioni, commissione, spese, canone mensile, bankkosten, kosten
        betaalpakket"""),
    ("finance.interest_paid", """
        interest, interest charge, interest charged, debit interest, overdraft interest, purchase interest,
        zinsen, sollzinsen, uberziehungszinsen, agios, interets, interets debiteurs, intereses, interessi,
        interessi passivi, rente debet, debetrente"""),
    ("insurance.vehicle", """
        car insurance, motor insurance, vehicle insurance, auto insurance, van insurance, motorcycle
        insurance, kfz versicherung, autoversicherung, assurance auto, assurance automobile, seguro coche,
        seguro de coche, seguro auto, assicurazione auto, autoverzekering"""),
    ("insurance.home", """
        home insurance, house insurance, contents insurance, buildings insurance, household insurance, renters
        insurance, landlord insurance, hausratversicherung, wohngebaudeversicherung, assurance habitation,
        seguro hogar, seguro de hogar, assicurazione casa, inboedelverzekering, woonverzekering"""),
    ("insurance.health", """
        health insurance, medical insurance, dental insurance, private medical, krankenversicherung,
        krankenkasse, mutuelle, assurance sante, seguro medico, seguro salud, seguro de salud, assicurazione
        sanitaria, zorgverzekering"""),
    ("insurance.life", """
        life insurance, life assurance, income protection, critical illness, lebensversicherung,
        risikolebensversicherung, assurance vie, seguro vida, seguro de vida, assicurazione vita,
        levensverzekering"""),
    ("insurance.travel", """
        travel insurance, reiseversicherung, assurance voyage, seguro viaje, seguro de viaje, assicurazione
        viaggio, reisverzekering"""),
    ("insurance.other", "pet insurance, dog insurance, cat insurance, tierversicherung, huisdierverzekering"),
    ("insurance.other", """
        insurance, insurances, insurance premium, underwriters, versicherung, versicherungen, haftpflicht,
        haftpflichtversicherung, assurance, assurances, seguro, seguros, assicurazione, assicurazioni,
        verzekering, verzekeringen"""),
    *SHOPS,
    ("housing.diy", """
        diy, hardware, hardware store, ironmongers, ironmonger, builders merchant, builders merchants,
        building supplies, timber, timber merchants, paint, paints, decorating, tiles, tools, tool hire,
        locksmith, locksmiths, baumarkt, eisenwaren, bricolage, quincaillerie, ferreteria, ferramenta,
        bricolaje, colorificio, bouwmarkt, ijzerhandel, doe het zelf"""),
    ("housing.furniture", """
        furniture, furnishings, home furnishings, carpets, carpet, flooring, curtains, blinds, beds, mattress,
        mattresses, sofas, lighting, interiors, homeware, homewares, kitchens, bathrooms, mobel, moebel,
        mobelhaus, einrichtungshaus, meubles, ameublement, literie, muebles, decoracion, mobili, arredamento,
        arredamenti, meubelen, meubels, woonwinkel"""),
    ("housing.appliances", """
        appliance, appliances, domestic appliances, white goods, washing machine, haushaltsgerate,
        electromenager, electrodomesticos, elettrodomestici, witgoed"""),
    ("housing.furniture", """
        household, household goods, housewares, kitchenware, homestore, home store, hausrat, haushaltswaren,
        articles menagers, menaje, casalinghi, huishoudelijk"""),
    ("housing.garden", """
        garden centre, garden center, garden centres, gardening, gardener, gardeners, landscaping, landscapes,
        plants, nurseries, plant nursery, lawn care, tree surgeon, tree surgeons, gartencenter, gartnerei,
        gaertnerei, jardinerie, jardineria, pepiniere, vivero, viveros, vivaio, giardinaggio, tuincentrum,
        hovenier"""),
    ("housing.cleaning", """
        cleaner, cleaners, cleaning, cleaning services, window cleaner, window cleaning, housekeeper,
        housekeeping, oven cleaning, reinigung, gebaudereinigung, putzhilfe, femme de menage, nettoyage,
        limpieza, limpiezas, pulizie, impresa di pulizie, schoonmaak, schoonmaakbedrijf"""),
    ("housing.repairs", """
        plumber, plumbers, plumbing, plumbing and heating, electrician, electricians, electrical contractors,
        builder, builders, building contractors, roofing, roofers, boiler service, boiler cover, joinery,
        carpentry, joiners, plastering, glazing, windows and doors, painter and decorator, pest control,
        handyman, home repairs, klempner, elektriker, handwerker, sanitar, dachdecker, schreinerei, plombier,
        electricien, menuiserie, chauffagiste, fontanero, fontaneria, electricista, reformas, carpinteria,
        idraulico, elettricista, falegnameria, loodgieter, elektricien, installatiebedrijf, schilder"""),
    ("housing.removals", """
        removals, removal company, moving company, self storage, storage unit, storage, umzug, umzuge,
        lagerraum, demenagement, demenagements, garde meubles, mudanzas, guardamuebles, traslochi,
        verhuisbedrijf, verhuizing, opslag"""),
    ("housing.repairs", "alarm, alarms, burglar alarm, home security, security systems, alarmanlage, alarmsysteem"),
    ("housing.mortgage", """
        mortgage, mortgages, mortgage payment, home loan, baufinanzierung, hypothek, immobilienkredit,
        hypotheque, credit immobilier, pret immobilier, hipoteca, mutuo, rata mutuo, hypotheek"""),
    ("housing.service_charge", """
        ground rent, property service charge, estate charge, block management, homeowners association, hoa,
        hausgeld, nebenkosten, charges de copropriete, copropriete, comunidad de propietarios, spese
        condominiali, condominio, servicekosten, vve bijdrage"""),
    ("housing.council_tax", """
        council tax, property tax, property taxes, rates payment, grundsteuer, rundfunkbeitrag grundsteuer,
        taxe d habitation, taxe fonciere, impuesto bienes inmuebles, ibi, imu, gemeentelijke belastingen, ozb"""),
    ("housing.rent", """
        rent, rental payment, rent payment, letting agent, letting agents, lettings, estate agent, estate
        agents, landlord, tenancy deposit, flat rent, house rent, miete, kaltmiete, warmmiete, mietzahlung,
        loyer, loyers, alquiler, alquiler vivienda, affitto, canone di locazione, huur, huurbetaling"""),
    ("utilities.water", """
        water, water bill, water rates, water company, sewerage, waste water, wasser, wasserwerk, wasserwerke,
        stadtentwasserung, abwasser, service des eaux, facture eau, compagnie des eaux, agua, aguas,
        acquedotto, servizio idrico, waterbedrijf, waterschap"""),
    ("utilities.energy", """
        electric, electricity, energy, gas, gas bill, power company, gas and electric, gas and electricity,
        gas electric, utility, utilities, strom, stromversorgung, erdgas, gaswerk, stadtwerke,
        energieversorgung, fernwarme, abschlag strom, electricite, gaz, energie, electricidad, suministro
        electrico, gas natural, luz, energia, energia elettrica, elettricita, luce, stroom, energierekening,
        gas en licht"""),
    ("utilities.energy", """
        heating oil, oil delivery, lpg, bottled gas, firewood, logs and coal, coal, heizol, heizoel,
        brennholz, fioul, bois de chauffage, gasoleo calefaccion, gasolio riscaldamento, pellet, stookolie"""),
    ("utilities.mobile", """
        mobile phone, mobile phones, mobile, mobiles, cell phone, cellular, wireless, sim only, phone top up,
        mobile top up, top up mobile, prepaid phone, handyvertrag, handy aufladung, mobilfunk, forfait mobile,
        telephone mobile, telefonia movil, recarga movil, ricarica telefonica, telefonia mobile, mobiele
        telefoon, beltegoed"""),
    ("utilities.broadband", """
        broadband, fibre broadband, broadband bill, landline, telephone, telephones, phone bill, telecom,
        telecoms, telecommunications, internet service, internet provider, festnetz, internetanschluss,
        telefon, telekommunikation, fournisseur internet, box internet, telefono, telefonia, fibra, banda
        larga, telecomunicaciones, internet en bellen, telefonie"""),
    ("utilities.television", """
        tv licence, tv license, tv licensing, tvlicensing, cable tv, satellite tv, pay tv, television,
        rundfunkbeitrag, rundfunk, redevance tv, canone tv, canone rai, kabelfernsehen, kijk en luistergeld"""),
    ("utilities.waste", """
        waste, waste collection, waste disposal, recycling, rubbish, rubbish removal, skip hire, bin
        collection, garden waste, mullabfuhr, abfallwirtschaft, entsorgung, dechetterie, ordures menageres,
        basuras, recogida basuras, tari, rifiuti, afvalstoffenheffing"""),
    ("leisure.sport", """
        gym, gyms, gym membership, fitness, fitness centre, fitness club, fitness studio, leisure centre,
        leisure center, sports centre, sports club, sport club, swimming, swimming pool, swimming lessons,
        pool, yoga, yoga studio, pilates, golf, golf club, tennis, tennis club, football club, football, rugby
        club, cricket club, climbing, climbing wall, bowling, ten pin, ice rink, skating, skiing, ski pass,
        lift pass, ski school, riding school, dance school, dance studio, martial arts, karate, judo, boxing,
        crossfit, fitnessstudio, sportverein, schwimmbad, hallenbad, kletterhalle, skipass, salle de sport,
        piscine, club de sport, forfait ski, gimnasio, piscina, polideportivo, club deportivo, palestra,
        piscina comunale, centro sportivo, sportschool, zwembad, sportvereniging"""),
    ("leisure.cinema", """
        cinema, cinemas, movie, movies, movie theater, film theatre, kino, kinos, cine, cines, bioscoop"""),
    ("leisure.shows", """
        theatre, theatres, theater, concert, concerts, concert hall, opera, ballet, musical, festival, comedy
        club, gig, box office, ticket office, event tickets, konzert, konzertkasse, spectacle, spectacles
        tickets, billetterie, teatro, concierto, conciertos, entradas, concerto, concerti, biglietteria,
        schouwburg, concertgebouw"""),
    ("leisure.attractions", """
        museum, museums, gallery, art gallery, zoo, aquarium, theme park, amusement park, water park, safari
        park, castle, botanical garden, botanic garden, botanic gardens, soft play, trampoline park, adventure
        park, playground, funfair, visitor centre, exhibition, exhibitions, freizeitpark, tierpark, schloss,
        ausstellung, musee, musees, parc d attractions, chateau, exposition, museo, museos, parque de
        atracciones, zoologico, musei, parco divertimenti, castello, mostra, pretpark, dierentuin, kasteel"""),
    ("leisure.games", """
        video game, video games, videogames, gaming, arcade, arcades, amusements, in game purchase,
        videospiele, jeux video, videojuegos, videogiochi"""),
    ("leisure.gambling", """
        lottery, lotto, national lottery, casino, casinos, betting, bet, bets, bookmaker, bookmakers, bingo,
        poker, scratchcard, lotterie, spielbank, spielothek, wettburo, sportwetten, loterie, paris sportifs,
        jeux de hasard, loteria, loterias, apuestas, lotteria, scommesse, ricevitoria, loterij, gokken"""),
    ("care.services", "photography, photographer, photographers, photo studio, photo prints, fotograf, fotografo"),
    ("subscriptions.streaming", """
        music streaming, video streaming, streaming, streaming subscription, audiobook, audiobooks, podcast
        subscription, video on demand"""),
    ("subscriptions.software", """
        web hosting, hosting, domain, domains, domain name, domain names, domain registration, cloud storage,
        cloud hosting, webhosting, hebergement web, dominios"""),
    ("subscriptions.software", """
        software, software licence, software license, software subscription, app store, apps, antivirus, vpn,
        saas, logiciel, logiciels"""),
    ("subscriptions.other", """
        newspaper subscription, magazine subscription, news subscription, digital subscription, zeitungsabo,
        abonnement presse, abonnement journal"""),
    ("family.school", """
        school, schools, school fees, school trip, school meals, school dinners, school lunch, school fund,
        primary school, high school, secondary school, grammar school, junior school, infant school, academy
        trust, tuition, tuition fees, tutor, tutoring, schule, grundschule, gymnasium schule, schulgeld,
        nachhilfe, ecole, college prive, lycee, cantine scolaire, colegio, escuela, comedor escolar,
        instituto, scuola, liceo, mensa scolastica, basisschool, ouderbijdrage, schoolgeld"""),
    ("family.university", """
        university, universities, college, colleges, student union, students union, student accommodation,
        semester fee, universitat, universitaet, hochschule, fachhochschule, studentenwerk, semesterbeitrag,
        universite, frais de scolarite, universidad, universita, politecnico, universiteit, hogeschool,
        collegegeld"""),
    ("family.courses", """
        course, courses, course fee, training, training course, workshop, workshops, seminar, seminars,
        conference, conference fee, webinar, masterclass, lessons, music lessons, language school, driving
        school, driving lessons, driving lesson, exam fee, exam fees, examination fee, education,
        volkshochschule, fahrschule, musikschule, sprachschule, kurs, kurse, fortbildung, weiterbildung,
        formation, auto ecole, cours, curso, cursos, autoescuela, academia, formacion, corso, corsi,
        autoscuola, formazione, cursus, cursussen, rijschool, opleiding"""),
    ("leisure.clubs", """
        political party, party membership, trade union, union dues, gewerkschaft, syndicat, sindicato"""),
    ("giving.religion", """
        church, churches, cathedral, chapel, parish, diocese, mosque, synagogue, gurdwara, tithe, kirche,
        kirchensteuer, pfarramt, eglise, paroisse, iglesia, parroquia, chiesa, parrocchia, kerk, kerkbijdrage"""),
    ("giving.charity", """
        charity, charities, charity shop, charitable, donation, donations, donate, charitable trust,
        fundraising, sponsorship, foodbank, food bank, hospice, spende, spenden, spendenkonto, hilfswerk, don
        association, donacion, donativo, ong, donazione, donazioni, onlus, donatie, goed doel, goede doelen"""),
    ("shopping.second_hand", """
        second hand, secondhand, thrift, thrift store, antique, antiques, vintage, pawnbrokers, auction,
        auctions, auction house, flohmarkt, trodelmarkt, antiquitaten, brocante, antiquites, segunda mano,
        antiguedades, usato, antiquariato, kringloop, kringloopwinkel"""),
    ("shopping.tobacco", """
        tobacco, tobacconist, tobacconists, cigars, vape, vapes, vape shop, vaping, e cigarettes, tabakwaren,
        tabak, tabac, cigarette electronique, estanco, tabacos, tabaccheria, tabacchi, sigarenwinkel"""),
    ("shopping.general", """
        department store, department stores, variety store, discount store, pound shop, dollar store, outlet,
        shopping centre, shopping center, shopping mall, retail park, duty free, kaufhaus, warenhaus,
        einkaufszentrum, grand magasin, centre commercial, grandes almacenes, centro comercial, bazar, grandi
        magazzini, centro commerciale, warenhuis, winkelcentrum"""),
    ("shopping.online", """
        marketplace, online marketplace, online shop, online store, mail order, onlineshop, webwinkel"""),
    ("finance.legal", """
        solicitor, solicitors, lawyer, lawyers, attorney, attorneys, legal fees, legal services, law firm,
        barrister, barristers, notary, conveyancing, court fee, court fees, rechtsanwalt, anwalt, kanzlei,
        notar, avocat, avocats, notaire, abogado, abogados, notaria, avvocato, studio legale, notaio,
        advocaat, advocaten, notaris"""),
    ("finance.advice", """
        accountant, accountants, accountancy, bookkeeping, bookkeeper, tax adviser, tax advisor, tax
        preparation, financial adviser, financial advisor, financial advice, steuerberater, steuerberatung,
        expert comptable, comptable, asesoria, gestoria, asesoria fiscal, commercialista, boekhouder,
        accountantskantoor, belastingadviseur"""),
    ("finance.fines", """
        fine, fines, penalty charge, penalty charge notice, parking fine, parking charge notice, speeding
        fine, penalty notice, bussgeld, verwarnungsgeld, strafzettel, amende, amendes, multa, multas, multe,
        sanzione, boete, verkeersboete"""),
    ("finance.government_fees", """
        passport, passport office, passport fee, visa application, visa fee, visa fees, driving licence, land
        registry, birth certificate, dbs check, planning application, planning fee, customs duty, import duty,
        immigration, standesamt, burgeramt, reisepass, verwaltungsgebuhr, zoll, prefecture, timbre fiscal,
        mairie, pasaporte, ayuntamiento, tasas, aduana, comune di, questura, passaporto, gemeente, paspoort,
        rijbewijs"""),
    ("finance.income_tax", """
        income tax, tax payment, tax bill, self assessment, self assessment tax, national insurance, vat
        payment, corporation tax, capital gains tax, inheritance tax, inland revenue, finanzamt,
        einkommensteuer, umsatzsteuer, finanzkasse, impots, impot, impot sur le revenu, prelevement a la
        source, dgfip, tresor public, agencia tributaria, hacienda, impuesto, impuestos, agenzia delle
        entrate, agenzia entrate, imposte, imposta, belastingdienst, inkomstenbelasting, tax, taxes"""),
    ("finance.loans", """
        loan, loans, loan repayment, loan payment, personal loan, loan instalment, kredit, kreditrate,
        darlehen, ratenkredit, remboursement pret, echeance pret, credit a la consommation, prestamo,
        prestamos, cuota prestamo, prestito, rata prestito, finanziamento, lening, aflossing, aflossing lening"""),
    ("finance.credit_card", """
        credit card payment, credit card bill, credit card repayment, card repayment, payment thank you,
        payment received thank you, kreditkartenabrechnung, abrechnung kreditkarte, recibo tarjeta, pago
        tarjeta credito, addebito carta di credito, afrekening creditcard"""),
    ("finance.loans", """
        debt collection, debt recovery, debt management, collection agency, inkasso, huissier, incasso bureau"""),
    ("transfers.savings", """
        savings, savings account, to savings, transfer to savings, savings transfer, save the change, round
        up, round ups, cash isa, isa, sparen, sparplan, tagesgeld, sparkonto, epargne, livret, livret a,
        ahorro, ahorros, cuenta ahorro, risparmio, sparen en, spaarrekening, spaarpot"""),
    ("transfers.investments", """
        investment, investments, stocks and shares, stockbroker, stockbrokers, brokerage, trading account,
        share dealing, unit trust, wealth management, wertpapier, wertpapiere, wertpapierkauf, depot, bourse,
        titres, inversion, inversiones, fondos, valores, investimenti, investimento, titoli, beleggen,
        beleggingen, effecten"""),
    ("transfers.pension", """
        pension, pensions, pension contribution, pension contributions, pension scheme, pension plan, sipp,
        retirement plan, retirement account, altersvorsorge, riester, rurup, rentenversicherung, epargne
        retraite, plan de pensiones, fondo pensione, pensioenfonds, pensioenpremie"""),
    ("work.postage", """
        post office, postage, postal, stamps, courier, couriers, parcel, parcels, parcel delivery, shipping,
        freight, briefmarken, porto, paketdienst, versand, la poste, timbres, colis, affranchissement,
        correos, paqueteria, mensajeria, poste italiane, spedizioni, spedizione, corriere, postzegels, pakket,
        koerier"""),
    ("work.services", """
        printing, printers, print shop, photocopying, copy shop, copyshop, signs and print, druckerei,
        imprimerie, imprenta, copisteria, tipografia, stampa, drukkerij"""),
    ("work.services", "advertising, advertisement, marketing, publicity, werbung, publicite, publicidad, pubblicita"),
    ("work.services", """
        wholesale, wholesaler, wholesalers, industrial supplies, trade supplies, grosshandel, grossiste"""),
    ("work.services", """
        recruitment, recruitment agency, employment agency, staffing, temp agency, zeitarbeit, interim"""),
    ("work.professional", """
        consultancy, consulting, consultants, consultant, surveyor, surveyors, architect, architects,
        engineering, professional fees, professional services, translation services, freelancer,
        unternehmensberatung, architekt, architecte, consultoria, arquitecto, architetto, consulenza,
        adviesbureau"""),
    ("leisure.clubs", """
        club, clubs, membership, memberships, membership fee, annual membership, association, society,
        mitgliedsbeitrag, mitgliedschaft, verein, cotisation, adhesion, association loi, cuota socio, socios,
        quota associativa, associazione, contributie, lidmaatschap, vereniging"""),
    ("subscriptions.other", """
        subscription, subscriptions, subscr, recurring subscription, monthly subscription, annual
        subscription, monthly plan, abo, abonnement, abonnements, suscripcion, suscripciones, abbonamento,
        abbonamenti"""),
    ("transfers.own", """
        own account, own accounts, between accounts, to own account, account transfer, transfer between
        accounts, internal transfer, internal xfr, umbuchung, eigenes konto, virement interne, compte a
        compte, traspaso, giroconto, eigen rekening"""),
    ("transfers.people", "zelle, venmo, split bill, paid back, pay back, owe you, iou, bizum, tikkie"),
    ("transfers.other", """
        transfer, transfers, bank transfer, money transfer, wire transfer, wire, xfer, tfr, trf, faster
        payment, faster payments, standing order, ueberweisung, uberweisung, dauerauftrag, virement,
        virements, transferencia, transferencias, bonifico, bonifici, overboeking, overschrijving"""),
    ("finance.bank_fees", "fee, fees, gebuhr, gebuhren, gebuehr, gebuehren"),
)  # fmt: skip

# For money that comes in, before the words above where both have as many words.
INCOME: Final[tuple[tuple[str, str], ...]] = (
    ("income.salary", """
        salary, salaries, payroll, wage, wages, monthly salary, salary payment, net pay, bonus payment,
        overtime pay, gehalt, lohn, lohn gehalt, gehaltszahlung, bezuge, salaire, salaires, virement salaire,
        paie, nomina, nominas, abono nomina, sueldo, salario, stipendio, stipendi, accredito stipendio,
        emolumenti, salaris, salarisbetaling, loonbetaling"""),
    ("income.benefits", """
        child benefit, universal credit, tax credit, tax credits, state benefit, disability living allowance,
        personal independence payment, jobseekers allowance, housing benefit, carers allowance, unemployment,
        unemployment benefit, social security, attendance allowance, winter fuel payment, kindergeld,
        elterngeld, arbeitslosengeld, burgergeld, wohngeld, allocations familiales, allocation, pole emploi,
        france travail, ayuda familiar, subsidio, prestacion, prestacion por desempleo, assegno unico,
        indennita, kinderbijslag, toeslag, zorgtoeslag, huurtoeslag, uitkering"""),
    ("income.pension", """
        pension, pensions, state pension, pension payment, annuity, retirement pension, rente, rentenzahlung,
        deutsche rentenversicherung, rentenversicherung, retraite, pension de retraite, pension de jubilacion,
        jubilacion, pensione, pensioen, aow"""),
    ("income.interest", """
        interest, interest paid, interest earned, gross interest, net interest, credit interest, interest
        payment, savings interest, habenzinsen, zinsen, zinsgutschrift, interets, interets crediteurs,
        intereses, abono intereses, interessi, interessi attivi, rente spaarrekening, creditrente"""),
    ("income.dividends", """
        dividend, dividends, dividend payment, dividende, dividenden, dividendes, ertragsgutschrift, coupon
        payment, dividendo, dividendos, dividendi, cedola"""),
    ("income.tax_refund", """
        tax refund, tax rebate, vat refund, tax repayment, income tax refund, steuererstattung, finanzamt
        erstattung, remboursement impot, remboursement impots, devolucion hacienda, devolucion irpf, rimborso
        irpef, rimborso fiscale, teruggave belastingdienst, belastingteruggave"""),
    ("income.rental", """
        rental income, rent received, rent from, rent income, mieteingang, mieteinnahme, loyer recu, alquiler
        recibido, affitto ricevuto, huurinkomsten"""),
    ("income.sales", """
        invoice payment, invoice paid, client payment, payout, payouts, sales proceeds, royalties, royalty,
        freelance income, honorar, rechnung bezahlt, honoraires, honorarios, onorario, fattura incassata"""),
    ("income.refunds", "cashback, cash back"),
    ("income.gifts", """
        birthday money, gift from, gift money, wedding gift, christmas money, inheritance, inheritance
        payment, erbschaft, geldgeschenk, heritage, herencia, eredita, erfenis"""),
)  # fmt: skip

# For money that comes in and no other word says why.
INCOME_LAST_RESORT: Final[tuple[tuple[str, str], ...]] = (
    ("income.refunds", """
        refund, refunds, refunded, reimbursement, rebate, expenses claim, expense claim, erstattung,
        ruckerstattung, rueckerstattung, ruckzahlung, gutschrift, remboursement, avoir, reembolso, devolucion,
        rimborso, accredito rimborso, terugbetaling, restitutie, compensation"""),
)  # fmt: skip

# How the money moved, where no word says what for.
CHANNELS: Final[dict[str, str]] = {
    "fee": "finance.bank_fees",
    "interest": "finance.interest_paid",
    "zelle": "transfers.people",
    "venmo": "transfers.people",
    "transfer": "transfers.other",
}
