-- The three roles every installation has. They belong to the server, not to one database, so they are made before
-- the first migration and stay when the last one is taken back. They cannot log in until `lm db upgrade` has given
-- lm_jobs and lm_app their passwords.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['lm_owner', 'lm_jobs BYPASSRLS', 'lm_app'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = split_part(wanted, ' ', 1)) THEN
                EXECUTE 'CREATE ROLE ' || wanted;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another database of this server was set up at the same moment
        END;
    END LOOP;

    -- The owner hands the warehouse's schemas to lm_jobs, and whoever migrates becomes the owner while doing so.
    IF NOT pg_has_role('lm_owner', 'lm_jobs', 'MEMBER') THEN
        GRANT lm_jobs TO lm_owner;
    END IF;
    IF NOT pg_has_role(current_user, 'lm_owner', 'MEMBER') THEN
        EXECUTE format('GRANT lm_owner TO %I', current_user);
    END IF;
    IF NOT has_database_privilege('lm_owner', current_database(), 'CREATE') THEN
        EXECUTE format('GRANT CREATE ON DATABASE %I TO lm_owner', current_database());
    END IF;
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO lm_jobs, lm_app', current_database());
    GRANT USAGE, CREATE ON SCHEMA public TO lm_owner;
    GRANT USAGE ON SCHEMA public TO lm_jobs, lm_app;
END
$$;
