-- For psql, as a superuser: the role and the database of MLflow, made once and left alone when they are there.
-- The role's password is set to MLFLOW_DB_PASSWORD each time, so a new one in .env takes effect.
\set ON_ERROR_STOP on
\getenv password MLFLOW_DB_PASSWORD
SELECT :'password' = '' AS password_missing \gset
\if :password_missing
DO $$ BEGIN RAISE EXCEPTION 'Set MLFLOW_DB_PASSWORD in .env before you start the profile mlflow.'; END $$;
\endif

SELECT 'CREATE ROLE mlflow' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mlflow') \gexec
ALTER ROLE mlflow LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE mlflow OWNER mlflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'mlflow') \gexec
