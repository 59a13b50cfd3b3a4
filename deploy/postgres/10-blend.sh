#!/bin/sh
# Runs once, when the image of PostgreSQL makes its data directory: the user that Blend logs in as, which owns its
# database and is no administrator, and the role that it works as.
set -eu

psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password POSTGRES_BLEND_PASSWORD
CREATE ROLE blend_app NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
CREATE ROLE blend LOGIN PASSWORD :'password' NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
GRANT blend_app TO blend;
CREATE DATABASE blend OWNER blend ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT, TEMPORARY ON DATABASE blend FROM PUBLIC;
SQL
