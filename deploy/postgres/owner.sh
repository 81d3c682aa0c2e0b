#!/bin/bash
# Run once, when the cluster is made: the database, and the role that owns it. The owner is no
# superuser; it may make roles, because `trialfleet migrate` makes those of the services.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set password `cat /run/owner/password`
CREATE ROLE owner LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE trialfleet OWNER owner;
REVOKE ALL ON DATABASE trialfleet FROM PUBLIC;
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
\connect trialfleet
ALTER SCHEMA public OWNER TO owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL
