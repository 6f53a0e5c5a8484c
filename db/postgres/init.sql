-- Creates Fanfare's role and database. The service creates the tables at its start.
--
--   psql -U postgres -v ON_ERROR_STOP=1 -v password=… -f db/postgres/init.sql
--
-- Without variables (a container's init directory), it uses FANFARE_DB_PASSWORD from the environment. It is safe to run
-- again: existing objects stay, and the role gets the new password.

\set ON_ERROR_STOP on

\if :{?password}
\else
    \getenv password FANFARE_DB_PASSWORD
\endif
\if :{?password}
\else
    \warn 'init.sql: no password: pass -v password=… or set FANFARE_DB_PASSWORD'
    -- psql's \quit would end with success, and a calling script would continue.
    SELECT 1 / 0 AS no_password_given;
\endif

-- Keeps the statement with the password out of the server's log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';

SELECT 'CREATE ROLE fanfare LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fanfare') \gexec

ALTER ROLE fanfare WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';

-- With template0, since the encoding of other templates cannot be changed, and texts are UTF-8.
SELECT 'CREATE DATABASE fanfare OWNER fanfare TEMPLATE template0 ENCODING ''UTF8'''
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'fanfare') \gexec

REVOKE ALL ON DATABASE fanfare FROM PUBLIC;

\connect fanfare

-- Up to PostgreSQL 14 all roles may create tables in it; since 15 only its owner may.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO fanfare;
