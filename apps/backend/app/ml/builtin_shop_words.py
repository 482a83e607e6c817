"""Words and phrases of shops and services, as data; `app.ml.builtin_words` says how to read and write them."""

from __future__ import annotations

from typing import Final

SHOPS: Final[tuple[tuple[str, str], ...]] = (
    ("transport.parking", """
        parking, car park, car parks, carpark, car parking, parking fee, parking meter, pay and display,
        airport parking, hotel parking, station parking, hospital parking, university parking, resident
        parking, parking permit, parkhaus, parkplatz, tiefgarage, parkschein, parkgebuhr, stationnement,
        aparcamiento, estacionamiento, parcheggio, parcheggi, parkeren, parkeergarage"""),
    ("transport.tolls", """
        toll, tolls, toll road, toll bridge, road toll, congestion charge, congestion charging, clean air
        zone, turnpike, maut, vignette, autobahnvignette, peage, autoroute, autoroutes, peaje, peajes,
        autopista, pedaggio, autostrada, autostrade, tolheffing"""),
    ("transport.charging", """
        ev charging, ev charge, electric vehicle charging, charging station, charge point, chargepoint,
        ladestation, ladesaule, ladestrom, borne de recharge, recharge electrique, punto de recarga, colonnina
        ricarica, laadpaal"""),
    ("transport.fuel", """
        petrol, diesel, fuel, fuels, gasoline, petrol station, filling station, service station, gas station,
        fuel station, petroleum, tankstelle, tanken, kraftstoff, benzin, station service, carburant,
        carburants, essence, gasolinera, gasolina, estacion de servicio, estacion servicio, carburante,
        benzina, benzinaio, benzine, tankstation, distributore carburante, brandstof"""),
    ("transport.taxi", """
        taxi, taxis, cab, cabs, minicab, minicabs, cab company, radio cars, private hire, airport transfer,
        airport transfers, ride share, rideshare, taxifahrt, mietwagen mit fahrer, vtc"""),
    ("transport.car_service", """
        car wash, carwash, hand car wash, valeting, autowasche, waschanlage, autolavaggio, wasstraat"""),
    ("transport.car_tax", """
        car tax, vehicle tax, road tax, vehicle excise duty, vehicle licensing, vehicle registration, mot, mot
        test, mot centre, kfz steuer, kraftfahrzeugsteuer, hauptuntersuchung, controle technique, impuesto
        vehiculos, itv, bollo auto, wegenbelasting, motorrijtuigenbelasting, apk keuring"""),
    ("transport.car_service", """
        tyre, tyres, tires, tyre centre, exhausts, autocentre, auto centre, auto parts, car parts, motor
        factors, vehicle repairs, car repairs, car repair, auto repair, car service, garage services, body
        shop, bodyshop, windscreen, windscreens, breakdown cover, roadside assistance, motors, autohaus, kfz
        werkstatt, werkstatt, autowerkstatt, reifen, carrosserie, pneus, taller, talleres, neumaticos,
        officina, autofficina, gommista, pneumatici, autobedrijf, banden"""),
    ("transport.car_purchase", """
        car sales, car finance, vehicle finance, car lease, vehicle leasing, car leasing, leasing"""),
    ("transport.bicycle", """
        cycle, cycles, bike, bikes, bicycle, bicycles, bike hire, cycle hire, bike share, fahrrad, fahrrader,
        velo, velos, bicicleta, bicicletas, bicicletta, biciclette, cicli, fiets, fietsen, rijwielen"""),
    ("transport.rail", """
        train, trains, rail, railway, railways, railcard, train ticket, train tickets, train station, rail
        station, bahn, bahnhof, bahnticket, fahrkarte, billet de train, gare, trenes, tren, treno, treni,
        ferrovia, ferrovie, treinkaartje, spoorwegen"""),
    ("transport.local", """
        bus, buses, coaches, coach station, bus station, bus pass, bus ticket, tram, trams, tramway, light
        rail, subway fare, underground, travelcard, public transport, transit, verkehrsbetriebe,
        verkehrsverbund, nahverkehr, monatskarte, deutschlandticket, transports en commun, autobus, autobuses,
        tranvia, trasporti, trasporto pubblico, openbaar vervoer"""),
    ("travel.car_hire", """
        car hire, car rental, car rentals, rent a car, van hire, van rental, vehicle rental, vehicle hire,
        autovermietung, mietwagen, location voiture, location de voitures, alquiler coches, alquiler de
        coches, autonoleggio, noleggio auto, autoverhuur"""),
    ("food.coffee", """
        coffee, coffees, coffee shop, coffee house, coffee bar, cafe, cafes, cafeteria, espresso, espresso
        bar, cappuccino, tea room, tea rooms, tearoom, tearooms, tea house, bubble tea, snack, snacks, snack
        bar, vending, vending machine, ice cream, gelato, gelateria, juice bar, smoothie, hospital cafe,
        museum cafe, kaffee, kaffeehaus, kaffeerosterei, eisdiele, eiscafe, salon de the, glacier, cafetaria,
        cafeterias, heladeria, caffe, caffetteria, koffie, koffiehuis, ijssalon"""),
    ("food.fast_food", """
        pizza, pizzas, pizzeria, pizza delivery, kebab, kebabs, burger, burgers, takeaway, takeaways, take
        away, takeout, fish and chips, fish chips, fish bar, chippy, fried chicken, chicken shop, fast food,
        food delivery, food truck, sandwich bar, sandwiches, noodle bar, doner, imbiss, schnellrestaurant,
        lieferdienst, friterie, restauration rapide, comida rapida, comida a domicilio, tavola calda,
        piadineria, snackbar, frituur"""),
    ("food.eating_out", """
        restaurant, restaurants, ristorante, bistro, brasserie, diner, dining, grill, grillhouse, steakhouse,
        steak house, carvery, trattoria, osteria, tandoori, balti, curry house, sushi, ramen, noodles, tapas,
        tapas bar, cantina, taverna, buffet, eatery, kitchen and bar, bar and grill, bar grill, bar and
        restaurant, hotel restaurant, canteen, catering, caterers, caterer, lunch, dinner, breakfast, brunch,
        gasthaus, gasthof, gaststatte, gaststaette, wirtshaus, kantine, mensa, speisekarte, creperie, auberge,
        traiteur, restaurante, restaurantes, asador, marisqueria, cerveceria restaurante, meson, ristoranti,
        mensa aziendale, eetcafe, eethuis, restaurante bar"""),
    ("food.specialist", """
        bakery, bakeries, baker, bakers, bakehouse, patisserie, confectionery, confectioners, sweet shop,
        sweets, chocolatier, chocolates, doughnuts, donuts, cupcakes, cake shop, backerei, baeckerei,
        konditorei, backshop, boulangerie, confiserie, chocolaterie, panaderia, pasteleria, pastelerias,
        panificio, pasticceria, bakkerij, bakker, banketbakkerij"""),
    ("food.bars", """
        pub, pubs, tavern, alehouse, ale house, taproom, tap room, public house, cocktail bar, wine bar,
        sports bar, brewpub, beer garden, nightclub, night club, bar, bars, arms, kneipe, biergarten,
        brauhaus, gastrobar, bodega bar, cerveceria, birreria, enoteca, kroeg"""),
    ("food.alcohol", """
        off licence, off license, wine, wines, wine shop, wine merchants, wine merchant, vineyard, winery,
        liquor, liquors, liquor store, spirits, brewery, brewing, distillery, beer shop, bottle shop,
        getrankemarkt, getraenkemarkt, weinhandlung, weingut, caviste, vins, vinos, bodega, bodegas, vinoteca,
        cantine, slijterij, wijnhandel"""),
    ("food.specialist", """
        butcher, butchers, butchery, fishmonger, fishmongers, greengrocer, greengrocers, fruit and veg,
        fruiterers, deli, delicatessen, cheese shop, farm shop, farmers market, health foods, health food,
        wholefoods, whole foods, organic foods, metzgerei, fleischerei, feinkost, hofladen, wochenmarkt,
        reformhaus, boucherie, charcuterie, poissonnerie, fromagerie, epicerie, primeur, carniceria,
        pescaderia, fruteria, charcuteria, macelleria, salumeria, pescheria, gastronomia, slager, slagerij,
        groenteboer, viswinkel"""),
    ("food.groceries", """
        grocery, groceries, grocer, grocers, grocery store, supermarket, supermarkets, supermarche,
        supermercado, supermercados, supermercato, supermercati, supermarkt, hypermarket, hypermarche,
        hipermercado, minimarket, mini market, mini mart, minimart, food market, food store, food stores, food
        centre, foods, foodstore, convenience store, corner shop, village shop, food and drink, cash and
        carry, lebensmittel, lebensmittelmarkt, discounter, alimentation, alimentation generale, alimentacion,
        ultramarinos, colmado, mercado, alimentari, levensmiddelen, buurtsuper, boodschappen"""),
    ("travel.flights", """
        airline, airlines, airways, air lines, flight, flights, air ticket, plane ticket, airport, airports,
        baggage fee, fluggesellschaft, flug, flughafen, compagnie aerienne, aeroport, aerolineas, lineas
        aereas, aeropuerto, vuelo, vuelos, linee aeree, aeroporto, voli, luchtvaartmaatschappij, luchthaven,
        vliegtickets"""),
    ("travel.lodging", """
        hotel, hotels, hostel, hostels, motel, guest house, guesthouse, bed and breakfast, aparthotel, apart
        hotel, inn, inns, lodge, lodges, resort, resorts, holiday cottage, holiday cottages, cottages, holiday
        let, holiday lets, accommodation, ferienwohnung, jugendherberge, hebergement, gite, gites, chambre d
        hotes, hostal, alojamiento, alojamientos, posada, albergo, alberghi, agriturismo, ostello, hotel
        restaurant zimmer, vakantiehuis"""),
    ("travel.lodging", """
        camping, campsite, camp site, campground, caravan park, caravan site, holiday park, glamping,
        campingplatz, wohnmobilstellplatz, campeggio, campamento, camping municipal, vakantiepark"""),
    ("travel.ferries", """
        ferry, ferries, cruise, cruises, cruise line, boat hire, fahre, faehre, kreuzfahrt, traversier,
        croisiere, croisieres, ferri, transbordador, crucero, cruceros, traghetto, traghetti, crociera,
        crociere, veerboot"""),
    ("travel.holidays", """
        travel agent, travel agents, travel agency, tour operator, package holiday, package holidays,
        holidays, holiday, tours, excursion, excursions, travel, reiseburo, reisebuero, reisen, urlaub, agence
        de voyages, agence de voyage, voyages, voyage, viajes, agencia de viajes, viaggi, agenzia viaggi,
        reisbureau, reizen, vakantie"""),
    ("health.pharmacy", """
        pharmacy, pharmacies, chemist, chemists, drugstore, drug store, prescription, prescriptions, apotheke,
        apotheken, pharmacie, parapharmacie, farmacia, farmacias, parafarmacia, farmacie, apotheek"""),
    ("health.dentist", """
        dentist, dentists, dental, dental practice, dental care, dental surgery, orthodontist, orthodontics,
        orthodontic, zahnarzt, zahnarztpraxis, kieferorthopade, kieferorthopadie, dentiste, cabinet dentaire,
        orthodontiste, dentista, clinica dental, ortodoncia, studio dentistico, tandarts, tandartspraktijk,
        orthodontist praktijk"""),
    ("health.optician", """
        optician, opticians, optometrist, optometrists, eyecare, eye care, eye test, eyewear, spectacles,
        glasses, contact lenses, optik, optiker, augenarzt, opticien, optique, ophtalmologue, optica, opticas,
        ottica, ottico, brillen"""),
    ("health.therapy", """
        physio, physiotherapy, physiotherapist, osteopath, osteopathy, chiropractor, chiropractic, podiatry,
        podiatrist, chiropodist, chiropody, counselling, counseling, psychotherapy, psychologist, psychology,
        therapy, therapist, acupuncture, physiotherapie, krankengymnastik, heilpraktiker, psychotherapie,
        kine, kinesitherapeute, osteopathe, psychologue, fisioterapia, fisioterapeuta, psicologo, psicologa,
        fysiotherapie, fysiotherapeut, osteopata"""),
    ("health.doctor", """
        doctor, doctors, dr surgery, gp surgery, surgery, medical centre, medical center, medical practice,
        health centre, health center, private gp, physician, physicians, paediatrician, pediatrics,
        dermatology, dermatologist, health clinic, medical, arzt, arztin, arztpraxis, hausarzt, kinderarzt,
        hautarzt, medecin, cabinet medical, pediatre, medico, medica, consulta medica, pediatra, studio
        medico, huisarts, huisartsenpraktijk"""),
    ("health.hospital", """
        hospital, hospitals, infirmary, clinic, clinics, ambulance, nursing home, care home, laboratory,
        krankenhaus, klinik, klinikum, uniklinik, pflegeheim, hopital, clinique, laboratoire, hospital
        universitario, clinica, ospedale, casa di cura, laboratorio analisi, ziekenhuis, kliniek, verpleeghuis"""),
    ("health.pharmacy", """
        hearing aid, hearing aids, hearing care, mobility aids, mobility scooters, orthopaedic, orthopedic,
        medical supplies, first aid, sanitatshaus, horgerate, audioprothesiste, ortopedia, thuiszorgwinkel"""),
    ("care.hair", """
        hair, hairdresser, hairdressers, hairdressing, hair salon, hair studio, hair and beauty, barber,
        barbers, barber shop, barbershop, beauty, beauty salon, beautician, nails, nail bar, nail salon,
        salon, tanning, waxing, tattoo, friseur, frisor, friseursalon, kosmetikstudio, nagelstudio, coiffeur,
        coiffure, coiffeuse, institut de beaute, onglerie, peluqueria, barberia, estetica, centro estetico,
        parrucchiere, parrucchiera, parrucchieri, barbiere, kapper, kapsalon, schoonheidssalon"""),
    ("care.spa", """
        spa, day spa, spas, massage, massages, wellness, sauna, thermal baths, therme, thermen, thermes, terme"""),
    ("care.cosmetics", """
        cosmetics, cosmetic, perfume, perfumery, fragrance, fragrances, toiletries, skincare, skin care, make
        up, makeup, drogerie, drogeriemarkt, parfumerie, kosmetik, cosmetiques, perfumeria, cosmetica,
        profumeria, cosmetici, drogist, drogisterij"""),
    ("care.laundry", """
        laundry, laundrette, launderette, laundromat, dry cleaning, dry cleaners, dry cleaner, cleaners and
        laundry, wascherei, reinigung textil, textilreinigung, waschsalon, pressing, blanchisserie, laverie,
        lavanderia, tintoreria, stomerij, wasserij, wasserette"""),
    ("care.services", """
        funeral, funerals, funeral directors, undertaker, bestattung, pompes funebres, onoranze funebri"""),
    ("family.vet", """
        vet, vets, veterinary, veterinarian, veterinary surgery, veterinary clinic, animal hospital, tierarzt,
        tierarztpraxis, tierklinik, veterinaire, veterinario, veterinaria, clinica veterinaria, dierenarts"""),
    ("family.pets", """
        pet, pets, pet shop, pet store, pet food, pet supplies, kennels, cattery, dog grooming, dog walker,
        dog walking, aquatics, tierbedarf, tiernahrung, tierfutter, animalerie, tienda de mascotas, mascotas,
        animali, dierenwinkel, hundesalon"""),
    ("family.childcare", """
        nursery, day nursery, nursery school, childcare, child care, childminder, child minder, preschool, pre
        school, kindergarten, creche, daycare, day care, nanny, babysitter, babysitting, after school club,
        breakfast club, wraparound care, kita, kindertagesstatte, tagesmutter, garderie, halte garderie,
        guarderia, escuela infantil, asilo nido, asilo, kinderopvang, buitenschoolse opvang"""),
    ("family.child_support", """
        child maintenance, child support, maintenance payment, unterhalt, kindesunterhalt, pension
        alimentaire, pension alimenticia, assegno di mantenimento, kinderalimentatie, alimony"""),
    ("family.child_support", """
        pocket money, allowance for, taschengeld, argent de poche, paga semanal, paghetta, zakgeld"""),
    ("finance.loans", "student loan, student loans, student finance, bafog, bafoeg ruckzahlung, studieschuld"),
    ("shopping.clothes", """
        clothing, clothes, clothing store, fashion, fashions, menswear, womenswear, ladieswear, childrenswear,
        apparel, outfitters, uniforms, school uniform, school uniforms, workwear, boutique, lingerie, tailor,
        tailors, alterations, knitwear, bekleidung, kleidung, mode, modehaus, herrenmode, damenmode,
        anderungsschneiderei, vetements, pret a porter, ropa, moda, sastreria, abbigliamento, sartoria,
        kleding, kledingzaak"""),
    ("shopping.shoes", """
        shoe, shoes, footwear, shoe shop, shoe repair, shoe repairs, cobbler, cobblers, trainers, schuhe,
        schuhhaus, schuhmacher, chaussures, cordonnerie, zapateria, zapatos, calzado, calzature, scarpe,
        schoenen, schoenenwinkel"""),
    ("shopping.jewellery", """
        jewellery, jewelry, jeweller, jewellers, jewelers, watches, watchmaker, handbags, luggage, leather
        goods, juwelier, schmuck, uhren, bijouterie, bijoux, horlogerie, maroquinerie, joyeria, relojeria,
        gioielleria, gioielli, orologeria, pelletteria, sieraden"""),
    ("shopping.electronics", """
        electronics, electronic, electrical retail, computer, computers, laptop, laptops, phone shop, phone
        repair, phone repairs, mobile repairs, computer repair, camera shop, cameras, hifi, hi fi, audio
        visual, elektronik, elektronikmarkt, computerladen, electronique, informatique, electronica,
        informatica, elettronica, elektronica"""),
    ("shopping.books", """
        books, bookshop, bookshops, bookstore, bookseller, booksellers, book shop, book store, textbooks,
        school books, university books, buchhandlung, buchladen, bucher, buecher, librairie, livres, libreria,
        librerias, libros, libri, boekhandel, boekwinkel, boeken"""),
    ("shopping.books", """
        newspaper, newspapers, newsagent, newsagents, news agent, news agents, newsstand, magazine, magazines,
        zeitung, zeitungen, zeitschriften, kiosk, presse, tabac presse, maison de la presse, journaux, kiosco,
        quiosco, prensa, periodicos, edicola, giornali, kranten, tijdschriften"""),
    ("shopping.stationery", """
        stationery, stationers, stationer, office supplies, office products, office equipment, school
        supplies, schreibwaren, burobedarf, buerobedarf, papeterie, fournitures de bureau, papeleria, material
        de oficina, cartoleria, cancelleria, kantoorartikelen, kantoorboekhandel"""),
    ("shopping.flowers", """
        florist, florists, flowers, flower shop, flower delivery, bouquet, bouquets, blumen, blumenladen,
        blumenhaus, floristik, fleuriste, fleurs, floristeria, flores, floreria, fioraio, fiori, fiorista,
        bloemen, bloemist, bloemenwinkel"""),
    ("shopping.gifts", """
        gift, gifts, gift shop, gift card, gift cards, gift voucher, greeting cards, card shop, souvenir,
        souvenirs, geschenke, geschenkartikel, cadeau, cadeaux, regalos, regalo, regali, articoli da regalo,
        cadeauwinkel"""),
    ("shopping.hobbies", """
        toy, toys, toy shop, toy store, board games, baby shop, spielwaren, spielzeug, jouets, magasin de
        jouets, jugueteria, juguetes, giocattoli, speelgoed, speelgoedwinkel"""),
    ("shopping.hobbies", """
        hobby, hobbies, hobbycraft, craft, crafts, craft shop, art supplies, artists materials, fabrics,
        haberdashery, wool shop, knitting, sewing, model shop, musical instruments, music shop, guitars,
        bastelbedarf, stoffe, musikhaus, loisirs creatifs, mercerie, instruments de musique, manualidades,
        merceria, telas, strumenti musicali, hobbywinkel"""),
    ("shopping.sports", """
        sports shop, sporting goods, sports equipment, sportswear, outdoor shop, camping shop, fishing tackle,
        golf shop, sport shop, sporthaus, sportgeschaft, articles de sport, deportes, articulos deportivos,
        articoli sportivi, sportwinkel"""),
)  # fmt: skip
