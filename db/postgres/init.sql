-- The role and the database that Fanfare works with. The tables are the service's own: it makes them at start.
--
--   psql -U postgres -v ON_ERROR_STOP=1 -v password=… -f db/postgres/init.sql
--
-- Where variables cannot be given (a container's init directory), FANFARE_DB_PASSWORD in the environment does.
-- Runs again without harm: what is there stays, and the role gets the password that is given.

\set ON_ERROR_STOP on

\if :{?password}
\else
    \getenv password FANFARE_DB_PASSWORD
\endif
\if :{?password}
\else
    \warn 'init.sql: no password: give -v password=… or set FANFARE_DB_PASSWORD'
    -- psql's own \quit would end with success, and a script that calls it would go on.
    SELECT 1 / 0 AS no_password_given;
\endif

-- The statement that carries the password stays out of the server's log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';

SELECT 'CREATE ROLE fanfare LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fanfare') \gexec

ALTER ROLE fanfare WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';

-- template0, because another template's encoding cannot be changed, and texts are UTF-8.
SELECT 'CREATE DATABASE fanfare OWNER fanfare TEMPLATE template0 ENCODING ''UTF8'''
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'fanfare') \gexec

REVOKE ALL ON DATABASE fanfare FROM PUBLIC;

\connect fanfare

-- Until PostgreSQL 14 everyone may create tables in it; since 15 its owner alone may.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO fanfare;
