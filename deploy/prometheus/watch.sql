-- The role that sql.yml asks as: it reads what it counts, and nothing else. Run at every start.
-- Its password comes from a file, so that no list of processes and no log shows it.
\set ON_ERROR_STOP on
\set password `cat "${WATCH_PASSWORD_FILE:-/run/secrets/watch_password}"`
SELECT 'CREATE ROLE watch LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'watch') \gexec
SET password_encryption = 'scram-sha-256';
ALTER ROLE watch WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 4 PASSWORD :'password';
ALTER ROLE watch SET default_transaction_read_only = on;
ALTER ROLE watch SET statement_timeout = '5s';
GRANT USAGE ON SCHEMA public TO watch;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM watch;
GRANT SELECT ON generations, rollouts, rollout_members, held_cameras, standings, backups TO watch;
GRANT SELECT (device, revoked_us, serial, expires_us) ON devices TO watch;
