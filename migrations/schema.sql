SET check_function_bodies = false;

CREATE SCHEMA archive;

COMMENT ON SCHEMA archive IS 'Batches that were published once and have been replaced or taken back.';

CREATE SCHEMA core;

COMMENT ON SCHEMA core IS 'Published outputs of transforms.';

CREATE SCHEMA masked;

COMMENT ON SCHEMA masked IS 'Views of datasets with classified columns, as those see them who may not see these.';

CREATE SCHEMA ops;

CREATE SCHEMA quarantine;

COMMENT ON SCHEMA quarantine IS 'Rows that a contract refused, kept until they are repaired and replayed.';

CREATE SCHEMA raw;

COMMENT ON SCHEMA raw IS 'Published datasets as delivered, typed by their contracts, a partition a batch.';

CREATE SCHEMA staging;

COMMENT ON SCHEMA staging IS 'Batches that have been copied in and not yet published, and the stg_ views of dbt.';

CREATE DOMAIN ops.sealed AS bytea
	CONSTRAINT is_sealed CHECK (((octet_length(VALUE) >= 35) AND (SUBSTRING(VALUE FROM 1 FOR 1) = '\xf5'::bytea)));

COMMENT ON DOMAIN ops.sealed IS 'A value sealed with AES-256-GCM before it came here; this server never has the key.';

CREATE FUNCTION ops.audit_chain() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    AS $$
DECLARE
    last ops.audit_seal;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tidegate audit', 0));
    SELECT * INTO last FROM ops.audit_seal ORDER BY place DESC LIMIT 1;
    last.place := coalesce(last.place, 0) + 1;
    -- A transaction that cannot see the end of the chain (repeatable read) finds its place taken, and is told to try again.
    INSERT INTO ops.audit_seal (place, audit_id, sha256) VALUES (
        last.place, NEW.audit_id,
        encode(sha256(convert_to(ops.audit_text(NEW, last.place, coalesce(last.sha256, '')), 'UTF8')), 'hex')
    ) ON CONFLICT (place) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE FUNCTION ops.audit_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    AS $$
DECLARE
    named text;
BEGIN
    IF to_regclass('ops.audit') IS NULL THEN
        RETURN;
    END IF;
    IF TG_EVENT = 'sql_drop' THEN
        -- What an ALTER TABLE drops is a part of that command, which has a line of its own.
        IF TG_TAG NOT LIKE 'DROP %' THEN
            RETURN;
        END IF;
        SELECT string_agg(DISTINCT object_identity, ', ') INTO named FROM pg_event_trigger_dropped_objects() WHERE original;
    ELSE
        -- Grants do not say on what they are, only on what kind of thing.
        SELECT string_agg(DISTINCT coalesce(object_identity, lower(object_type)), ', ')
        INTO named FROM pg_event_trigger_ddl_commands();
    END IF;
    IF named IS NOT NULL THEN
        INSERT INTO ops.audit (action, object, detail)
        VALUES (CASE TG_EVENT WHEN 'sql_drop' THEN 'drop' ELSE 'ddl' END, named, TG_TAG);
    END IF;
END
$$;

COMMENT ON FUNCTION ops.audit_ddl() IS 'Records a command that changed the schema, without its text; for the event triggers of migrations/audit.sql.';

CREATE FUNCTION ops.audit_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '%.% is only ever added to, by whomever: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, lower(TG_OP)
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TABLE ops.audit (
    audit_id bigint NOT NULL,
    occurred_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    login name DEFAULT SESSION_USER NOT NULL,
    role_name name DEFAULT COALESCE(NULLIF(current_setting('role'::text), 'none'::text), (SESSION_USER)::text) NOT NULL,
    application_name text DEFAULT current_setting('application_name'::text) NOT NULL,
    client_address inet DEFAULT inet_client_addr(),
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
    action text NOT NULL,
    object text NOT NULL,
    row_count bigint,
    detail text,
    CONSTRAINT audit_action_check CHECK ((action = ANY (ARRAY['insert'::text, 'update'::text, 'delete'::text, 'truncate'::text, 'publish'::text, 'undo'::text, 'ddl'::text, 'drop'::text, 'read'::text, 'enter_all'::text, 'export'::text, 'erase'::text]))),
    CONSTRAINT audit_row_count_check CHECK ((row_count >= 0))
);

COMMENT ON TABLE ops.audit IS 'One row per write or read of classified values and per change of the schema: who, when, what; never the values.';

COMMENT ON COLUMN ops.audit.audit_id IS 'Number of the line; ops.audit_seal has its place in the chain.';

COMMENT ON COLUMN ops.audit.occurred_at IS 'When it was done.';

COMMENT ON COLUMN ops.audit.login IS 'Who logged in; role_name is whom the session acted as.';

COMMENT ON COLUMN ops.audit.role_name IS 'Whom the session acted as.';

COMMENT ON COLUMN ops.audit.application_name IS 'What the program called itself.';

COMMENT ON COLUMN ops.audit.client_address IS 'Address that it came from; empty for a socket of the machine itself.';

COMMENT ON COLUMN ops.audit.transaction_id IS 'Transaction that did it: what was rolled back has no line.';

COMMENT ON COLUMN ops.audit.action IS 'What was done.';

COMMENT ON COLUMN ops.audit.object IS 'Table, or other object, that it was done to.';

COMMENT ON COLUMN ops.audit.row_count IS 'Rows that were written or read; null where nobody has counted them.';

COMMENT ON COLUMN ops.audit.detail IS 'Command, columns, batch or reason; never a value.';

CREATE FUNCTION ops.audit_text(line ops.audit, place bigint, before text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog'
    RETURN (jsonb_build_array(before, (place)::text, ((line).audit_id)::text, (((EXTRACT(epoch FROM (line).occurred_at) * (1000000)::numeric))::bigint)::text, ((line).login)::text, ((line).role_name)::text, (line).application_name, host((line).client_address), ((line).transaction_id)::text, (line).action, (line).object, ((line).row_count)::text, (line).detail))::text;

COMMENT ON FUNCTION ops.audit_text(line ops.audit, place bigint, before text) IS 'What the hash of a line is taken of; tidegate.gates.audit_chain says the same in Python.';

CREATE FUNCTION ops.audit_write() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    AS $$
DECLARE
    rows bigint;
BEGIN
    IF to_regclass('ops.audit') IS NULL THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'TRUNCATE' AND TG_NARGS = 0 THEN
        SELECT count(*) INTO rows FROM changed;
        IF rows = 0 THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO ops.audit (action, object, row_count)
    VALUES (lower(TG_OP), format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME), rows);
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION ops.audit_write() IS 'Records a statement that wrote rows to a table; with an argument, without counting them.';

CREATE FUNCTION ops.enter(tenant text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog'
    AS $$
BEGIN
    IF NOT pg_has_role(session_user, 'app', 'MEMBER')
        OR EXISTS (SELECT FROM ops.tenant_login AS l WHERE l.login = session_user)
    THEN
        RAISE EXCEPTION '% serves no tenants of its choice', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM set_config(
        'tidegate.tenant',
        tenant || '@' || pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()),
        true
    );
END
$$;

COMMENT ON FUNCTION ops.enter(tenant text) IS 'Work for one tenant until the transaction ends; for programs that serve many.';

CREATE FUNCTION ops.enter_all() RETURNS void
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT set_config('row_security'::text, 'on'::text, true) AS set_config;
 SELECT set_config('tidegate.every_tenant'::text, ((pg_backend_pid() || '.'::text) || EXTRACT(epoch FROM transaction_timestamp())), true) AS set_config;
 INSERT INTO ops.audit (action, object)
   VALUES ('enter_all'::text, 'every tenant'::text);
END;

COMMENT ON FUNCTION ops.enter_all() IS 'See the rows of every tenant until the transaction ends; for the owner''s own programs.';

CREATE FUNCTION ops.key_of(value ops.sealed) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN convert_from(SUBSTRING((value)::bytea FROM 3 FOR get_byte((value)::bytea, 1)), 'UTF8'::name);

COMMENT ON FUNCTION ops.key_of(value ops.sealed) IS 'The name of the key that a value was sealed under.';

CREATE FUNCTION ops.outlived() RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the marts that this transaction began with have been replaced twice'
        USING ERRCODE = 'snapshot_too_old', HINT = 'Begin a new transaction.';
END
$$;

COMMENT ON FUNCTION ops.outlived() IS 'Ends a transaction that is too old for the marts: better an error than an empty mart.';

CREATE FUNCTION ops.refresh_mart(wanted regclass) RETURNS bigint
    LANGUAGE plpgsql
    AS $_$
DECLARE
    followed ops.stream_mart;
    here bigint := (SELECT system_identifier FROM pg_control_system());
    now_seen pg_snapshot;
    came text[];
    keys text; same text; others text; excluded_others text;
    changed bigint; gone bigint := 0;
BEGIN
    -- Whoever refreshes it already does the work of this call, too, or the next one does.
    SELECT * INTO followed FROM ops.stream_mart WHERE mart = wanted FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR to_regclass(followed.source) IS NULL THEN
        RETURN NULL;
    END IF;
    -- Before the rows are read: what becomes visible in between is read twice, never left out.
    now_seen := pg_current_snapshot();
    IF followed.seen IS NULL OR followed.server IS DISTINCT FROM here THEN
        -- Made just now, or restored on a server that counts its transactions anew.
        EXECUTE format('DELETE FROM %s', wanted);
        EXECUTE format('INSERT INTO %s %s', wanted, followed.definition);
        GET DIAGNOSTICS changed = ROW_COUNT;
    ELSE
        came := ARRAY(
            SELECT batch_id FROM ops.stream_batch WHERE dataset = followed.dataset
                AND transaction_id >= pg_snapshot_xmin(followed.seen)
                AND NOT pg_visible_in_snapshot(transaction_id, followed.seen)
        );
        IF came = '{}' THEN
            RETURN 0;
        END IF;
        SELECT string_agg(format('%I', attname), ', ') FILTER (WHERE attname = ANY (followed.key_columns)),
            string_agg(format('anew.%1$I = touched.%1$I', attname), ' AND ') FILTER (WHERE attname = ANY (followed.key_columns)),
            string_agg(format('%I', attname), ', ') FILTER (WHERE attname <> ALL (followed.key_columns)),
            string_agg(format('excluded.%I', attname), ', ') FILTER (WHERE attname <> ALL (followed.key_columns))
        INTO keys, same, others, excluded_others
        FROM pg_attribute WHERE attrelid = wanted AND attnum > 0 AND NOT attisdropped;
        -- OFFSET keeps the group's key a parameter of its own SELECT, so that an index finds its rows.
        EXECUTE format(
            'WITH touched AS (%s) INSERT INTO %s AS mart SELECT found.* FROM touched CROSS JOIN LATERAL '
            '(SELECT anew.* FROM (%s) AS anew WHERE %s OFFSET 0) AS found '
            'ON CONFLICT (%s) DO UPDATE SET (%s) = ROW (%s) WHERE mart IS DISTINCT FROM excluded',
            followed.touched, wanted, followed.definition, same, keys, others, excluded_others
        ) USING came;
        GET DIAGNOSTICS changed = ROW_COUNT;
        EXECUTE format('DELETE FROM %s AS mart WHERE %s', wanted, followed.outlived);
        GET DIAGNOSTICS gone = ROW_COUNT;
    END IF;
    UPDATE ops.stream_mart SET seen = now_seen, server = here, refreshed_at = clock_timestamp(), trouble = NULL
    WHERE mart = wanted;
    RETURN changed + gone;
END
$_$;

COMMENT ON FUNCTION ops.refresh_mart(wanted regclass) IS 'Brings a mart that follows a stream up to date; returns the rows that changed, NULL where somebody else is at it or there is no stream yet.';

CREATE TABLE ops.tenant_login (
    login name NOT NULL,
    tenant text NOT NULL,
    bound_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE ops.tenant_login IS 'Logins that see the rows of one tenant, whatever a session says.';

COMMENT ON COLUMN ops.tenant_login.login IS 'The login.';

COMMENT ON COLUMN ops.tenant_login.tenant IS 'Whose rows it sees.';

COMMENT ON COLUMN ops.tenant_login.bound_at IS 'Since when.';

CREATE FUNCTION ops.sees_all() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO 'pg_catalog'
    BEGIN ATOMIC
 SELECT ((SESSION_USER = ( SELECT pg_get_userbyid(c.relowner) AS pg_get_userbyid
            FROM pg_class c
           WHERE (c.oid = ('ops.tenant_login'::regclass)::oid))) AND COALESCE((current_setting('tidegate.every_tenant'::text, true) = ((pg_backend_pid() || '.'::text) || EXTRACT(epoch FROM transaction_timestamp()))), false));
END;

COMMENT ON FUNCTION ops.sees_all() IS 'Whether this transaction of the owner sees the rows of every tenant.';

CREATE FUNCTION ops.tenant() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO 'pg_catalog'
    BEGIN ATOMIC
 SELECT COALESCE(( SELECT l.tenant
            FROM ops.tenant_login l
           WHERE (l.login = SESSION_USER)),
         CASE
             WHEN (pg_has_role(SESSION_USER, 'app'::name, 'MEMBER'::text) AND (split_part(current_setting('tidegate.tenant'::text, true), '@'::text, 2) = ((pg_backend_pid() || '.'::text) || EXTRACT(epoch FROM transaction_timestamp())))) THEN split_part(current_setting('tidegate.tenant'::text, true), '@'::text, 1)
             ELSE NULL::text
         END) AS "coalesce";
END;

COMMENT ON FUNCTION ops.tenant() IS 'Whose rows this transaction may see; nobody''s where it is null.';

CREATE TABLE ops.approval (
    approval_id bigint NOT NULL,
    delivery_id text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    sha256 text NOT NULL,
    decision text NOT NULL,
    decided_by text NOT NULL,
    why text NOT NULL,
    decided_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT approval_decided_by_check CHECK ((decided_by <> ''::text)),
    CONSTRAINT approval_decision_check CHECK ((decision = ANY (ARRAY['approve'::text, 'reject'::text]))),
    CONSTRAINT approval_kind_check CHECK ((kind = ANY (ARRAY['cost'::text, 'deployment'::text, 'merge'::text, 'waiver'::text, 'unmet'::text, 'topic'::text]))),
    CONSTRAINT approval_why_check CHECK ((why <> ''::text))
);

COMMENT ON TABLE ops.approval IS 'What people decided about a delivery, each about exactly what they were shown.';

COMMENT ON COLUMN ops.approval.approval_id IS 'Number; of two on one subject the higher one counts.';

COMMENT ON COLUMN ops.approval.delivery_id IS 'Delivery that it is about.';

COMMENT ON COLUMN ops.approval.kind IS 'What was asked; a waiver lets one rule of a gate pass.';

COMMENT ON COLUMN ops.approval.subject IS 'Document, or rule of a gate, that was decided about.';

COMMENT ON COLUMN ops.approval.sha256 IS 'Hash of what was shown: for anything else the decision is void.';

COMMENT ON COLUMN ops.approval.decision IS 'What was decided.';

COMMENT ON COLUMN ops.approval.decided_by IS 'Who decided, by the name they gave.';

COMMENT ON COLUMN ops.approval.why IS 'Their reason.';

COMMENT ON COLUMN ops.approval.decided_at IS 'When.';

ALTER TABLE ops.approval ALTER COLUMN approval_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.approval_approval_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ops.audit ALTER COLUMN audit_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.audit_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.audit_seal (
    place bigint NOT NULL,
    audit_id bigint NOT NULL,
    sha256 text NOT NULL
);

COMMENT ON TABLE ops.audit_seal IS 'The chain: the lines of ops.audit in the order of their commits, each with a hash over itself and the hash before.';

COMMENT ON COLUMN ops.audit_seal.place IS 'Place in the chain, without gaps.';

COMMENT ON COLUMN ops.audit_seal.audit_id IS 'The line that stands there.';

COMMENT ON COLUMN ops.audit_seal.sha256 IS 'Hash over the line and the hash before.';

CREATE TABLE ops.backup (
    backup_id text NOT NULL,
    kind text NOT NULL,
    tool text NOT NULL,
    cluster text NOT NULL,
    timeline bigint NOT NULL,
    start_lsn pg_lsn NOT NULL,
    stop_lsn pg_lsn NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    bytes bigint NOT NULL,
    based_on text,
    verified_at timestamp with time zone,
    removed_at timestamp with time zone,
    CONSTRAINT backup_check CHECK (((kind = 'incremental'::text) = (based_on IS NOT NULL))),
    CONSTRAINT backup_kind_check CHECK ((kind = ANY (ARRAY['full'::text, 'incremental'::text])))
);

COMMENT ON TABLE ops.backup IS 'One row per backup of the warehouse: where in the WAL it begins and ends, when it was last found whole, when removed.';

COMMENT ON COLUMN ops.backup.backup_id IS 'Name of the backup: when it began, and its kind.';

COMMENT ON COLUMN ops.backup.kind IS 'Full, or incremental: what has changed since the one it is based on.';

COMMENT ON COLUMN ops.backup.tool IS 'Program that took it.';

COMMENT ON COLUMN ops.backup.cluster IS 'Identity of the server that it was taken from.';

COMMENT ON COLUMN ops.backup.timeline IS 'Timeline of that server; a restore or a failover begins another one.';

COMMENT ON COLUMN ops.backup.start_lsn IS 'Where in the WAL it begins.';

COMMENT ON COLUMN ops.backup.stop_lsn IS 'Where in the WAL it is consistent.';

COMMENT ON COLUMN ops.backup.started_at IS 'When it began.';

COMMENT ON COLUMN ops.backup.ended_at IS 'When it ended.';

COMMENT ON COLUMN ops.backup.bytes IS 'What it occupies.';

COMMENT ON COLUMN ops.backup.based_on IS 'Backup without which an incremental one is nothing.';

COMMENT ON COLUMN ops.backup.verified_at IS 'When all of it was last found whole; empty where never, or damaged since.';

COMMENT ON COLUMN ops.backup.removed_at IS 'When it was let go of.';

CREATE TABLE ops.batch (
    batch_id text NOT NULL,
    dataset text NOT NULL,
    partition text NOT NULL,
    state text NOT NULL,
    contract_version text NOT NULL,
    source_sha256 text NOT NULL,
    landing_url text NOT NULL,
    delivered_count bigint NOT NULL,
    accepted_count bigint NOT NULL,
    refused_count bigint NOT NULL,
    published_schema text NOT NULL,
    held_reason text,
    previous_batch_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    published_at timestamp with time zone,
    source_name text NOT NULL,
    CONSTRAINT batch_check CHECK ((delivered_count = (accepted_count + refused_count))),
    CONSTRAINT batch_state_check CHECK ((state = ANY (ARRAY['landed'::text, 'staged'::text, 'judged'::text, 'held'::text, 'published'::text, 'superseded'::text, 'undone'::text, 'rejected'::text, 'archived'::text])))
);

COMMENT ON TABLE ops.batch IS 'One row per delivery of one dataset for one partition, judged under one contract version.';

COMMENT ON COLUMN ops.batch.batch_id IS 'Derived from dataset, contract version, partition and content: the same delivery is the same batch.';

COMMENT ON COLUMN ops.batch.dataset IS 'Name of the contract.';

COMMENT ON COLUMN ops.batch.partition IS 'Partition that was delivered; all for a dataset that is delivered whole.';

COMMENT ON COLUMN ops.batch.state IS 'How far it has come, and whether readers see it.';

COMMENT ON COLUMN ops.batch.contract_version IS 'Version of the contract that its rows were held against.';

COMMENT ON COLUMN ops.batch.source_sha256 IS 'Hash of what was delivered.';

COMMENT ON COLUMN ops.batch.landing_url IS 'Where its accepted rows lie as Parquet.';

COMMENT ON COLUMN ops.batch.delivered_count IS 'Rows that were delivered.';

COMMENT ON COLUMN ops.batch.accepted_count IS 'Rows that the contract accepted.';

COMMENT ON COLUMN ops.batch.refused_count IS 'Rows that it refused, which are in quarantine.';

COMMENT ON COLUMN ops.batch.published_schema IS 'Schema that it is published in.';

COMMENT ON COLUMN ops.batch.held_reason IS 'Why a gate holds it.';

COMMENT ON COLUMN ops.batch.previous_batch_id IS 'Batch that it replaced, and that an undo goes back to.';

COMMENT ON COLUMN ops.batch.created_at IS 'When it landed.';

COMMENT ON COLUMN ops.batch.published_at IS 'When it was published.';

COMMENT ON COLUMN ops.batch.source_name IS 'What the sender called the files of the delivery.';

CREATE TABLE ops.decision (
    decision_id bigint NOT NULL,
    subject text NOT NULL,
    action text NOT NULL,
    decided_by text NOT NULL,
    why text NOT NULL,
    decided_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT decision_action_check CHECK ((action = ANY (ARRAY['release'::text, 'reject'::text, 'undo'::text, 'replay'::text, 'restore'::text])))
);

COMMENT ON TABLE ops.decision IS 'What a person decided about a batch or a build, and why.';

COMMENT ON COLUMN ops.decision.decision_id IS 'Number of the decision.';

COMMENT ON COLUMN ops.decision.subject IS 'Batch or build that it is about.';

COMMENT ON COLUMN ops.decision.action IS 'What was decided.';

COMMENT ON COLUMN ops.decision.decided_by IS 'Who decided, by the name they gave.';

COMMENT ON COLUMN ops.decision.why IS 'Their reason.';

COMMENT ON COLUMN ops.decision.decided_at IS 'When.';

ALTER TABLE ops.decision ALTER COLUMN decision_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.decision_decision_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.delivery (
    delivery_id text NOT NULL,
    team text NOT NULL,
    strategy text NOT NULL,
    strategy_sha256 text NOT NULL,
    code_version text NOT NULL,
    state text NOT NULL,
    wave text NOT NULL,
    reason text,
    started_by text NOT NULL,
    dag_run_id text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT delivery_check CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['failed'::text, 'success'::text])))),
    CONSTRAINT delivery_started_by_check CHECK ((started_by <> ''::text)),
    CONSTRAINT delivery_state_check CHECK ((state = ANY (ARRAY['running'::text, 'waiting'::text, 'paused'::text, 'blocked'::text, 'failed'::text, 'success'::text])))
);

COMMENT ON TABLE ops.delivery IS 'One row per run of a team, from its strategy to its release.';

COMMENT ON COLUMN ops.delivery.delivery_id IS 'The DAG run that began it; one that goes on after a stop keeps it.';

COMMENT ON COLUMN ops.delivery.team IS 'The team, by the name of its file in teams/.';

COMMENT ON COLUMN ops.delivery.strategy IS 'The strategy document.';

COMMENT ON COLUMN ops.delivery.strategy_sha256 IS 'Hash of the document that targets were read from.';

COMMENT ON COLUMN ops.delivery.code_version IS 'Commit that is delivered.';

COMMENT ON COLUMN ops.delivery.state IS 'Whether it goes on, waits for a person, or has ended.';

COMMENT ON COLUMN ops.delivery.wave IS 'Wave that it is in.';

COMMENT ON COLUMN ops.delivery.reason IS 'What it waits for, or why it is blocked or failed.';

COMMENT ON COLUMN ops.delivery.started_by IS 'Who started it.';

COMMENT ON COLUMN ops.delivery.dag_run_id IS 'Airflow''s run that works on it now.';

COMMENT ON COLUMN ops.delivery.started_at IS 'When it began.';

COMMENT ON COLUMN ops.delivery.finished_at IS 'When it ended; empty while it may go on.';

CREATE TABLE ops.delivery_evidence (
    delivery_id text NOT NULL,
    evidence_id bigint NOT NULL,
    wave text NOT NULL,
    role text NOT NULL,
    attempt bigint NOT NULL,
    probe text NOT NULL,
    path text NOT NULL,
    evidence_sha256 text,
    reason text,
    taken_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT delivery_evidence_attempt_check CHECK ((attempt > 0)),
    CONSTRAINT delivery_evidence_check CHECK (((evidence_sha256 IS NULL) = (reason IS NOT NULL)))
);

COMMENT ON TABLE ops.delivery_evidence IS 'Which evidence was taken for which delivery: a gate reads no other.';

COMMENT ON COLUMN ops.delivery_evidence.delivery_id IS 'Delivery that it was taken for.';

COMMENT ON COLUMN ops.delivery_evidence.evidence_id IS 'Number; of two of one path the higher one counts.';

COMMENT ON COLUMN ops.delivery_evidence.wave IS 'Wave that it was taken in.';

COMMENT ON COLUMN ops.delivery_evidence.role IS 'Role that answers for it.';

COMMENT ON COLUMN ops.delivery_evidence.attempt IS 'Attempt that it was taken in.';

COMMENT ON COLUMN ops.delivery_evidence.probe IS 'Probe that took it.';

COMMENT ON COLUMN ops.delivery_evidence.path IS 'File, from the folder of evidence on; empty where the probe could not run.';

COMMENT ON COLUMN ops.delivery_evidence.evidence_sha256 IS 'Hash of the file; empty where the probe could not run.';

COMMENT ON COLUMN ops.delivery_evidence.reason IS 'Why the probe could not run.';

COMMENT ON COLUMN ops.delivery_evidence.taken_at IS 'When it was taken.';

ALTER TABLE ops.delivery_evidence ALTER COLUMN evidence_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.delivery_evidence_evidence_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.delivery_work (
    delivery_id text NOT NULL,
    wave text NOT NULL,
    role text NOT NULL,
    attempt bigint NOT NULL,
    state text NOT NULL,
    artifacts jsonb DEFAULT '{}'::jsonb NOT NULL,
    reason text,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT delivery_work_attempt_check CHECK ((attempt > 0)),
    CONSTRAINT delivery_work_state_check CHECK ((state = ANY (ARRAY['running'::text, 'done'::text, 'failed'::text, 'skipped'::text])))
);

COMMENT ON TABLE ops.delivery_work IS 'One row per role, wave and attempt: what was done, and what came of it.';

COMMENT ON COLUMN ops.delivery_work.delivery_id IS 'Delivery that it is a part of.';

COMMENT ON COLUMN ops.delivery_work.wave IS 'Wave, by its number.';

COMMENT ON COLUMN ops.delivery_work.role IS 'Role, by its code.';

COMMENT ON COLUMN ops.delivery_work.attempt IS 'Which attempt it is; more than one in the bug-fix loop only.';

COMMENT ON COLUMN ops.delivery_work.state IS 'How it went.';

COMMENT ON COLUMN ops.delivery_work.artifacts IS 'Files that were made, by path, each with its hash.';

COMMENT ON COLUMN ops.delivery_work.reason IS 'Why it failed or was skipped.';

COMMENT ON COLUMN ops.delivery_work.started_at IS 'When it began.';

COMMENT ON COLUMN ops.delivery_work.finished_at IS 'When it ended.';

CREATE TABLE ops.encryption_key (
    key_id text NOT NULL,
    check_value text NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    retired_at timestamp with time zone
);

COMMENT ON TABLE ops.encryption_key IS 'The keys that confidential values were ever sealed under; by name, never the keys.';

COMMENT ON COLUMN ops.encryption_key.key_id IS 'Name of the key, which each value that it seals begins with.';

COMMENT ON COLUMN ops.encryption_key.check_value IS 'Tells the key from another one of its name, and nothing about it.';

COMMENT ON COLUMN ops.encryption_key.made_at IS 'When it first sealed something here.';

COMMENT ON COLUMN ops.encryption_key.retired_at IS 'When nothing in the warehouse or the landing area needed it any more.';

CREATE TABLE ops.erasure (
    erasure_id text NOT NULL,
    columns text[] NOT NULL,
    digests text[] NOT NULL,
    key_id text NOT NULL,
    asked_by text NOT NULL,
    why text NOT NULL,
    row_counts jsonb DEFAULT '{}'::jsonb NOT NULL,
    began_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT erasure_check CHECK ((cardinality(digests) = cardinality(columns))),
    CONSTRAINT erasure_why_check CHECK ((why <> ''::text))
);

COMMENT ON TABLE ops.erasure IS 'One row per person whose data were erased: who asked, why, how many rows where; never who it was.';

COMMENT ON COLUMN ops.erasure.erasure_id IS 'Number of the request; its file in HOME/erasures has it, too.';

COMMENT ON COLUMN ops.erasure.columns IS 'Columns by which the person was named.';

COMMENT ON COLUMN ops.erasure.digests IS 'Of the values that named the person, by column, under a key that the warehouse does not have.';

COMMENT ON COLUMN ops.erasure.key_id IS 'Key that the digests are made with.';

COMMENT ON COLUMN ops.erasure.asked_by IS 'Who carried it out.';

COMMENT ON COLUMN ops.erasure.why IS 'Why they did.';

COMMENT ON COLUMN ops.erasure.row_counts IS 'Rows that were erased, by place.';

COMMENT ON COLUMN ops.erasure.began_at IS 'When it began.';

COMMENT ON COLUMN ops.erasure.finished_at IS 'When nothing was left; empty where it was cut short.';

CREATE TABLE ops.evidence (
    evidence_sha256 text NOT NULL,
    kind text NOT NULL,
    path text NOT NULL,
    figures jsonb NOT NULL,
    taken_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE ops.evidence IS 'Files that a probe or a judge has just written, by the hash of their content.';

COMMENT ON COLUMN ops.evidence.evidence_sha256 IS 'Hash of the file.';

COMMENT ON COLUMN ops.evidence.kind IS 'What kind of measurement it holds.';

COMMENT ON COLUMN ops.evidence.path IS 'Where it was written.';

COMMENT ON COLUMN ops.evidence.figures IS 'The figures that verdicts rest on.';

COMMENT ON COLUMN ops.evidence.taken_at IS 'When it was taken.';

CREATE TABLE ops.fence (
    subject text NOT NULL,
    token bigint NOT NULL,
    holder text NOT NULL,
    taken_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE ops.fence IS 'One row per batch that was ever worked on: the highest token so far, and whose it is. Who shows a lower one writes nothing.';

COMMENT ON COLUMN ops.fence.subject IS 'What is worked on.';

COMMENT ON COLUMN ops.fence.token IS 'Highest token that was given out for it.';

COMMENT ON COLUMN ops.fence.holder IS 'Worker that has it.';

COMMENT ON COLUMN ops.fence.taken_at IS 'When they took it.';

CREATE TABLE ops.marts_build (
    build_id text NOT NULL,
    state text NOT NULL,
    inputs jsonb NOT NULL,
    held_reason text,
    built_at timestamp with time zone DEFAULT now() NOT NULL,
    published_at timestamp with time zone,
    CONSTRAINT marts_build_state_check CHECK ((state = ANY (ARRAY['built'::text, 'judged'::text, 'held'::text, 'published'::text, 'superseded'::text, 'undone'::text])))
);

COMMENT ON TABLE ops.marts_build IS 'One row per candidate set of marts; inputs names the batches that it was built from.';

COMMENT ON COLUMN ops.marts_build.build_id IS 'Derived from the batches and the code: the same inputs are the same build.';

COMMENT ON COLUMN ops.marts_build.state IS 'How far it has come, and whether readers see it.';

COMMENT ON COLUMN ops.marts_build.inputs IS 'Batches that it was built from, by dataset and partition.';

COMMENT ON COLUMN ops.marts_build.held_reason IS 'Why a gate holds it.';

COMMENT ON COLUMN ops.marts_build.built_at IS 'When it was begun.';

COMMENT ON COLUMN ops.marts_build.published_at IS 'When it was last published.';

CREATE TABLE ops.marts_swap (
    swap_id bigint NOT NULL,
    build_id text NOT NULL,
    swapped_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE ops.marts_swap IS 'What readers see from when on: the newest row that a snapshot holds names its build.';

COMMENT ON COLUMN ops.marts_swap.swap_id IS 'Number of the swap; readers see the build of the highest that they see.';

COMMENT ON COLUMN ops.marts_swap.build_id IS 'Build that is shown from then on.';

COMMENT ON COLUMN ops.marts_swap.swapped_at IS 'When.';

CREATE TABLE ops.migration (
    version_num character varying(32) NOT NULL
);

COMMENT ON TABLE ops.migration IS 'The revision that the warehouse is at; one row.';

COMMENT ON COLUMN ops.migration.version_num IS 'The last migration that was applied.';

CREATE TABLE ops.release (
    version text NOT NULL,
    delivery_id text NOT NULL,
    state text NOT NULL,
    code_version text NOT NULL,
    from_revision text NOT NULL,
    to_revision text NOT NULL,
    backup_id text,
    build_id text,
    reason text,
    begun_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT release_state_check CHECK ((state = ANY (ARRAY['begun'::text, 'released'::text, 'rolled back'::text])))
);

COMMENT ON TABLE ops.release IS 'One row per release: what went into the warehouse, what it can go back to, whether it did.';

COMMENT ON COLUMN ops.release.version IS 'Semantic version of the schema.';

COMMENT ON COLUMN ops.release.delivery_id IS 'Delivery that released it.';

COMMENT ON COLUMN ops.release.state IS 'How far it has come, and whether it stands.';

COMMENT ON COLUMN ops.release.code_version IS 'Commit that was released.';

COMMENT ON COLUMN ops.release.from_revision IS 'Migration that the warehouse was at.';

COMMENT ON COLUMN ops.release.to_revision IS 'Migration that it was taken to.';

COMMENT ON COLUMN ops.release.backup_id IS 'Backup that was taken before.';

COMMENT ON COLUMN ops.release.build_id IS 'Set of marts that readers saw before.';

COMMENT ON COLUMN ops.release.reason IS 'Why it was rolled back.';

COMMENT ON COLUMN ops.release.begun_at IS 'When it began.';

COMMENT ON COLUMN ops.release.ended_at IS 'When it stood, or was rolled back.';

CREATE TABLE ops.schema_change (
    schema_change_id bigint NOT NULL,
    door text NOT NULL,
    name text NOT NULL,
    direction text NOT NULL,
    statements text NOT NULL,
    seconds double precision NOT NULL,
    changed_by text DEFAULT SESSION_USER NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT schema_change_direction_check CHECK ((direction = ANY (ARRAY['up'::text, 'down'::text]))),
    CONSTRAINT schema_change_door_check CHECK ((door = ANY (ARRAY['migration'::text, 'contract'::text])))
);

COMMENT ON TABLE ops.schema_change IS 'One row per change to the schema: which migration or which version of which contract, its statements, by whom.';

COMMENT ON COLUMN ops.schema_change.schema_change_id IS 'Number of the change, in order.';

COMMENT ON COLUMN ops.schema_change.door IS 'Whether a migration made it, or a contract asked for it.';

COMMENT ON COLUMN ops.schema_change.name IS 'Which migration, or dataset and version.';

COMMENT ON COLUMN ops.schema_change.direction IS 'Applied, or taken back.';

COMMENT ON COLUMN ops.schema_change.statements IS 'The SQL that ran.';

COMMENT ON COLUMN ops.schema_change.seconds IS 'How long it took.';

COMMENT ON COLUMN ops.schema_change.changed_by IS 'Login that ran it.';

COMMENT ON COLUMN ops.schema_change.changed_at IS 'When.';

ALTER TABLE ops.schema_change ALTER COLUMN schema_change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.schema_change_schema_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.step (
    step_id bigint NOT NULL,
    subject text NOT NULL,
    step text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    seconds double precision NOT NULL,
    row_count bigint,
    note text
);

COMMENT ON TABLE ops.step IS 'One row per step that ended: which batch or build, how long it took, how many rows it handled.';

COMMENT ON COLUMN ops.step.step_id IS 'Number of the step, in the order in which steps ended.';

COMMENT ON COLUMN ops.step.subject IS 'Batch, build or other work that it was a step of.';

COMMENT ON COLUMN ops.step.step IS 'What was done.';

COMMENT ON COLUMN ops.step.started_at IS 'When it began.';

COMMENT ON COLUMN ops.step.seconds IS 'How long it took.';

COMMENT ON COLUMN ops.step.row_count IS 'Rows that it handled; empty where it handled none.';

COMMENT ON COLUMN ops.step.note IS 'What else it left: a decision, the digest of its inputs.';

ALTER TABLE ops.step ALTER COLUMN step_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.step_step_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.stream_batch (
    batch_id text NOT NULL,
    dataset text NOT NULL,
    topic text NOT NULL,
    topic_incarnation text NOT NULL,
    contract_version text NOT NULL,
    message_count bigint NOT NULL,
    row_count bigint NOT NULL,
    known_count bigint NOT NULL,
    refused_count bigint NOT NULL,
    late_count bigint NOT NULL,
    message_bytes bigint NOT NULL,
    first_event_at timestamp with time zone,
    last_event_at timestamp with time zone,
    first_sent_at timestamp with time zone,
    latency_p50_seconds double precision,
    latency_p95_seconds double precision,
    latency_p99_seconds double precision,
    taking_seconds double precision NOT NULL,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    archived_count bigint DEFAULT 0 NOT NULL,
    folded_count bigint DEFAULT 1 NOT NULL,
    transaction_id xid8 DEFAULT pg_current_xact_id(),
    CONSTRAINT stream_batch_check CHECK ((message_count = ((row_count + known_count) + refused_count))),
    CONSTRAINT stream_batch_known_count_check CHECK ((known_count >= 0)),
    CONSTRAINT stream_batch_late_count_check CHECK ((late_count >= 0)),
    CONSTRAINT stream_batch_message_bytes_check CHECK ((message_bytes >= 0)),
    CONSTRAINT stream_batch_message_count_check CHECK ((message_count >= 0)),
    CONSTRAINT stream_batch_refused_count_check CHECK ((refused_count >= 0)),
    CONSTRAINT stream_batch_row_count_check CHECK ((row_count >= 0))
);

COMMENT ON TABLE ops.stream_batch IS 'One row per micro-batch of a topic: what was read, and what became of it.';

COMMENT ON COLUMN ops.stream_batch.batch_id IS 'Derived from the offsets that it read: the same messages are the same batch.';

COMMENT ON COLUMN ops.stream_batch.dataset IS 'Dataset.';

COMMENT ON COLUMN ops.stream_batch.topic IS 'Topic.';

COMMENT ON COLUMN ops.stream_batch.topic_incarnation IS 'Kafka''s id of the topic.';

COMMENT ON COLUMN ops.stream_batch.contract_version IS 'Version of the contract that judged it.';

COMMENT ON COLUMN ops.stream_batch.message_count IS 'Messages read: rows, known and refused ones.';

COMMENT ON COLUMN ops.stream_batch.row_count IS 'Rows that it added.';

COMMENT ON COLUMN ops.stream_batch.known_count IS 'Messages whose row was there already, the same in every column.';

COMMENT ON COLUMN ops.stream_batch.refused_count IS 'Messages that went to quarantine.';

COMMENT ON COLUMN ops.stream_batch.late_count IS 'Rows whose event lay further behind the newest one than the contract allows; they were taken.';

COMMENT ON COLUMN ops.stream_batch.message_bytes IS 'Bytes of keys and values.';

COMMENT ON COLUMN ops.stream_batch.first_event_at IS 'Event time of its oldest row.';

COMMENT ON COLUMN ops.stream_batch.last_event_at IS 'Event time of its newest row.';

COMMENT ON COLUMN ops.stream_batch.first_sent_at IS 'When its oldest message was sent.';

COMMENT ON COLUMN ops.stream_batch.latency_p50_seconds IS 'From sent to visible, median.';

COMMENT ON COLUMN ops.stream_batch.latency_p95_seconds IS 'From sent to visible, 95th percentile.';

COMMENT ON COLUMN ops.stream_batch.latency_p99_seconds IS 'From sent to visible, 99th percentile.';

COMMENT ON COLUMN ops.stream_batch.taking_seconds IS 'From its first message polled to the end of its transaction.';

COMMENT ON COLUMN ops.stream_batch.committed_at IS 'When its rows became visible.';

COMMENT ON COLUMN ops.stream_batch.archived_count IS 'Rows of it that went with a partition that was archived.';

COMMENT ON COLUMN ops.stream_batch.folded_count IS 'Micro-batches that this row tells of: more than one where those of a day were folded.';

COMMENT ON COLUMN ops.stream_batch.transaction_id IS 'Transaction that wrote it: who knows a snapshot knows whether it was seen. Empty for those before 0023.';

CREATE TABLE ops.stream_gap (
    gap_id bigint NOT NULL,
    dataset text NOT NULL,
    topic text NOT NULL,
    topic_incarnation text NOT NULL,
    topic_partition bigint NOT NULL,
    kind text NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    found_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT stream_gap_kind_check CHECK ((kind = ANY (ARRAY['removed unread'::text, 'topic made again'::text, 'taken back'::text])))
);

COMMENT ON TABLE ops.stream_gap IS 'Where a topic could not be read on from the offset that was due, for the broker does not have it.';

COMMENT ON COLUMN ops.stream_gap.gap_id IS 'Number.';

COMMENT ON COLUMN ops.stream_gap.dataset IS 'Dataset.';

COMMENT ON COLUMN ops.stream_gap.topic IS 'Topic.';

COMMENT ON COLUMN ops.stream_gap.topic_incarnation IS 'Kafka''s id of the topic that is read on.';

COMMENT ON COLUMN ops.stream_gap.topic_partition IS 'Partition of the topic.';

COMMENT ON COLUMN ops.stream_gap.kind IS 'Removed before they were read, gone with a topic that was deleted, or taken back: lost by the broker after they were read.';

COMMENT ON COLUMN ops.stream_gap.first_offset IS 'Offset that was due.';

COMMENT ON COLUMN ops.stream_gap.next_offset IS 'Offset that is read on from.';

COMMENT ON COLUMN ops.stream_gap.found_at IS 'When it was noticed.';

ALTER TABLE ops.stream_gap ALTER COLUMN gap_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.stream_gap_gap_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.stream_hold (
    hold_id bigint NOT NULL,
    dataset text NOT NULL,
    reason text NOT NULL,
    topic_incarnation text NOT NULL,
    next_offsets jsonb NOT NULL,
    held_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    released_by text,
    why text,
    released_at timestamp with time zone,
    CONSTRAINT stream_hold_check CHECK ((((released_at IS NULL) = (released_by IS NULL)) AND ((released_at IS NULL) = (why IS NULL))))
);

COMMENT ON TABLE ops.stream_hold IS 'When a stream stood still because too much of it was refused, and who let it go on.';

COMMENT ON COLUMN ops.stream_hold.hold_id IS 'Number.';

COMMENT ON COLUMN ops.stream_hold.dataset IS 'Dataset.';

COMMENT ON COLUMN ops.stream_hold.reason IS 'What was refused, of how much, and what the contract allows.';

COMMENT ON COLUMN ops.stream_hold.topic_incarnation IS 'Kafka''s id of the topic.';

COMMENT ON COLUMN ops.stream_hold.next_offsets IS 'By partition, where the messages end that it is about: a release lets these through.';

COMMENT ON COLUMN ops.stream_hold.held_at IS 'When it began to stand.';

COMMENT ON COLUMN ops.stream_hold.released_by IS 'Who let it go on.';

COMMENT ON COLUMN ops.stream_hold.why IS 'Their reason.';

COMMENT ON COLUMN ops.stream_hold.released_at IS 'When; empty while it stands.';

ALTER TABLE ops.stream_hold ALTER COLUMN hold_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.stream_hold_hold_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ops.stream_mart (
    mart regclass NOT NULL,
    dataset text NOT NULL,
    source text NOT NULL,
    key_columns text[] NOT NULL,
    definition text NOT NULL,
    touched text NOT NULL,
    outlived text NOT NULL,
    seen pg_snapshot,
    server bigint,
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    refreshed_at timestamp with time zone,
    trouble text,
    CONSTRAINT stream_mart_key_columns_check CHECK ((key_columns <> '{}'::text[]))
);

COMMENT ON TABLE ops.stream_mart IS 'Marts that follow a stream: dbt writes a row when it makes one, workers refresh it.';

COMMENT ON COLUMN ops.stream_mart.mart IS 'The table, whatever schema it has been moved to; each build of the marts has its own.';

COMMENT ON COLUMN ops.stream_mart.dataset IS 'The stream that it follows.';

COMMENT ON COLUMN ops.stream_mart.source IS 'Table of the stream''s rows; where there is none yet, the mart is empty.';

COMMENT ON COLUMN ops.stream_mart.key_columns IS 'Columns of its grain: one row of the mart is one group of the stream''s rows.';

COMMENT ON COLUMN ops.stream_mart.definition IS 'The model''s SELECT of the whole mart.';

COMMENT ON COLUMN ops.stream_mart.touched IS 'SELECT of the keys whose rows came with the micro-batches $1.';

COMMENT ON COLUMN ops.stream_mart.outlived IS 'Condition for a row of the mart that its window has left behind.';

COMMENT ON COLUMN ops.stream_mart.seen IS 'The snapshot of the last refresh: micro-batches that it does not see have come since. Empty until the first.';

COMMENT ON COLUMN ops.stream_mart.server IS 'Identity of the server that the snapshot is of.';

COMMENT ON COLUMN ops.stream_mart.made_at IS 'When dbt made it.';

COMMENT ON COLUMN ops.stream_mart.refreshed_at IS 'When it last followed a micro-batch, or was made.';

COMMENT ON COLUMN ops.stream_mart.trouble IS 'Why it could not be refreshed; empty while it follows.';

CREATE TABLE ops.stream_offset (
    dataset text NOT NULL,
    topic_partition bigint NOT NULL,
    topic text NOT NULL,
    topic_incarnation text NOT NULL,
    next_offset bigint NOT NULL,
    newest_event_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT stream_offset_next_offset_check CHECK ((next_offset >= 0)),
    CONSTRAINT stream_offset_topic_partition_check CHECK ((topic_partition >= 0))
);

COMMENT ON TABLE ops.stream_offset IS 'How far each partition of a topic was taken in: the truth, of which the broker has a hint.';

COMMENT ON COLUMN ops.stream_offset.dataset IS 'Dataset that the messages are rows of.';

COMMENT ON COLUMN ops.stream_offset.topic_partition IS 'Partition of the topic.';

COMMENT ON COLUMN ops.stream_offset.topic IS 'Topic.';

COMMENT ON COLUMN ops.stream_offset.topic_incarnation IS 'Kafka''s id of the topic: another one when it was deleted and made again.';

COMMENT ON COLUMN ops.stream_offset.next_offset IS 'The first message that was not taken yet.';

COMMENT ON COLUMN ops.stream_offset.newest_event_at IS 'The newest event time among the rows taken from it; what is late is told by it.';

COMMENT ON COLUMN ops.stream_offset.updated_at IS 'When it last changed.';

CREATE TABLE ops.stream_partition (
    dataset text NOT NULL,
    partition text NOT NULL,
    noticed_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE ops.stream_partition IS 'Since when the partitions of streams hold rows: retention counts from there, where the interval is older.';

COMMENT ON COLUMN ops.stream_partition.dataset IS 'Dataset.';

COMMENT ON COLUMN ops.stream_partition.partition IS 'Partition of the dataset, not of the topic.';

COMMENT ON COLUMN ops.stream_partition.noticed_at IS 'When upkeep first found rows in it, which it looks for every day.';

CREATE TABLE ops.stream_range (
    batch_id text NOT NULL,
    topic_partition bigint NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    CONSTRAINT stream_range_check CHECK ((next_offset > first_offset))
);

COMMENT ON TABLE ops.stream_range IS 'Which offsets each micro-batch read: of one partition they follow each other without a hole.';

COMMENT ON COLUMN ops.stream_range.batch_id IS 'Micro-batch.';

COMMENT ON COLUMN ops.stream_range.topic_partition IS 'Partition of the topic.';

COMMENT ON COLUMN ops.stream_range.first_offset IS 'First offset that it read.';

COMMENT ON COLUMN ops.stream_range.next_offset IS 'First offset that it did not read.';

CREATE TABLE ops.stream_reconciled (
    dataset text NOT NULL,
    topic_incarnation text NOT NULL,
    topic_partition bigint NOT NULL,
    next_offset bigint NOT NULL,
    horizon xid8 NOT NULL,
    server bigint NOT NULL,
    reconciled_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE ops.stream_reconciled IS 'How far each partition of a topic was found without a hole: the next reconciliation begins there.';

COMMENT ON COLUMN ops.stream_reconciled.dataset IS 'Dataset.';

COMMENT ON COLUMN ops.stream_reconciled.topic_incarnation IS 'Kafka''s id of the topic.';

COMMENT ON COLUMN ops.stream_reconciled.topic_partition IS 'Partition of the topic.';

COMMENT ON COLUMN ops.stream_reconciled.next_offset IS 'How far the partition had been taken then.';

COMMENT ON COLUMN ops.stream_reconciled.horizon IS 'Transactions before it had ended, so that their micro-batches were looked at.';

COMMENT ON COLUMN ops.stream_reconciled.server IS 'Identity of the server that counted them.';

COMMENT ON COLUMN ops.stream_reconciled.reconciled_at IS 'When.';

CREATE TABLE ops.table_layout (
    dataset text NOT NULL,
    contract_version text NOT NULL,
    columns jsonb NOT NULL,
    key_columns jsonb NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    access_sha256 text
);

COMMENT ON TABLE ops.table_layout IS 'The contract version that each published table was last made or evolved for.';

COMMENT ON COLUMN ops.table_layout.dataset IS 'Dataset that the table is of.';

COMMENT ON COLUMN ops.table_layout.contract_version IS 'Version that it was last made or evolved for.';

COMMENT ON COLUMN ops.table_layout.columns IS 'Its columns, with types, and which are required.';

COMMENT ON COLUMN ops.table_layout.key_columns IS 'Its key, and what a partition is.';

COMMENT ON COLUMN ops.table_layout.changed_at IS 'When it was last changed.';

COMMENT ON COLUMN ops.table_layout.access_sha256 IS 'Of the statements by which a contract last said who may read the table.';

CREATE TABLE ops.verdict (
    verdict_id bigint NOT NULL,
    subject text NOT NULL,
    dataset text NOT NULL,
    partition text,
    gate text NOT NULL,
    rule text NOT NULL,
    verdict text NOT NULL,
    value text NOT NULL,
    target text NOT NULL,
    target_source text NOT NULL,
    evidence_sha256 text,
    rule_set_version text NOT NULL,
    decided_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT verdict_verdict_check CHECK ((verdict = ANY (ARRAY['PASS'::text, 'WARN'::text, 'FAIL'::text])))
);

COMMENT ON TABLE ops.verdict IS 'What each gate decided, rule by rule: the measured value, the target and where the target is written.';

COMMENT ON COLUMN ops.verdict.verdict_id IS 'Number of the verdict; of two on one rule the higher one counts.';

COMMENT ON COLUMN ops.verdict.subject IS 'Batch, build or backup that was judged.';

COMMENT ON COLUMN ops.verdict.dataset IS 'Dataset that it is about; marts or warehouse where it is no one dataset.';

COMMENT ON COLUMN ops.verdict.partition IS 'Partition that it is about.';

COMMENT ON COLUMN ops.verdict.gate IS 'Gate that judged.';

COMMENT ON COLUMN ops.verdict.rule IS 'Rule that was held against it.';

COMMENT ON COLUMN ops.verdict.verdict IS 'The decision.';

COMMENT ON COLUMN ops.verdict.value IS 'What was measured.';

COMMENT ON COLUMN ops.verdict.target IS 'What was expected.';

COMMENT ON COLUMN ops.verdict.target_source IS 'File and line that say so.';

COMMENT ON COLUMN ops.verdict.evidence_sha256 IS 'Evidence that it rests on.';

COMMENT ON COLUMN ops.verdict.rule_set_version IS 'Version of the contract, suite or program that the rule is of.';

COMMENT ON COLUMN ops.verdict.decided_at IS 'When.';

ALTER TABLE ops.verdict ALTER COLUMN verdict_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ops.verdict_verdict_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE quarantine.refused_message (
    refused_message_id bigint NOT NULL,
    batch_id text NOT NULL,
    dataset text NOT NULL,
    contract_version text NOT NULL,
    topic text NOT NULL,
    topic_partition bigint NOT NULL,
    message_offset bigint NOT NULL,
    sent_at timestamp with time zone NOT NULL,
    message_key bytea,
    message_value bytea,
    headers jsonb NOT NULL,
    column_name text NOT NULL,
    value text,
    rule text NOT NULL,
    expected text NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    refused_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    closed_at timestamp with time zone,
    copied_at timestamp with time zone,
    CONSTRAINT refused_message_check CHECK (((state = 'open'::text) = (closed_at IS NULL))),
    CONSTRAINT refused_message_state_check CHECK ((state = ANY (ARRAY['open'::text, 'replayed'::text, 'dismissed'::text])))
);

COMMENT ON TABLE quarantine.refused_message IS 'Messages that their contract refused, as they came, until somebody repairs and replays them; never deleted.';

COMMENT ON COLUMN quarantine.refused_message.refused_message_id IS 'Number.';

COMMENT ON COLUMN quarantine.refused_message.batch_id IS 'Micro-batch that read it.';

COMMENT ON COLUMN quarantine.refused_message.dataset IS 'Dataset.';

COMMENT ON COLUMN quarantine.refused_message.contract_version IS 'Version of the contract that refused it.';

COMMENT ON COLUMN quarantine.refused_message.topic IS 'Topic.';

COMMENT ON COLUMN quarantine.refused_message.topic_partition IS 'Partition of the topic.';

COMMENT ON COLUMN quarantine.refused_message.message_offset IS 'Its place in the partition.';

COMMENT ON COLUMN quarantine.refused_message.sent_at IS 'When it was sent.';

COMMENT ON COLUMN quarantine.refused_message.message_key IS 'Its key, as it came.';

COMMENT ON COLUMN quarantine.refused_message.message_value IS 'Its value, as it came.';

COMMENT ON COLUMN quarantine.refused_message.headers IS 'Its headers, name and value, in their order.';

COMMENT ON COLUMN quarantine.refused_message.column_name IS 'Column whose rule it broke; empty where the whole message did.';

COMMENT ON COLUMN quarantine.refused_message.value IS 'Text of that column.';

COMMENT ON COLUMN quarantine.refused_message.rule IS 'Kind of the first rule that it broke.';

COMMENT ON COLUMN quarantine.refused_message.expected IS 'What was expected.';

COMMENT ON COLUMN quarantine.refused_message.state IS 'Whether it still waits for repair.';

COMMENT ON COLUMN quarantine.refused_message.refused_at IS 'When it was refused.';

COMMENT ON COLUMN quarantine.refused_message.closed_at IS 'When it was replayed.';

COMMENT ON COLUMN quarantine.refused_message.copied_at IS 'When it was copied to the topic of dead letters; empty until then.';

ALTER TABLE quarantine.refused_message ALTER COLUMN refused_message_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME quarantine.refused_message_refused_message_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE quarantine.refused_row (
    refused_row_id bigint NOT NULL,
    batch_id text NOT NULL,
    dataset text NOT NULL,
    partition text NOT NULL,
    contract_version text NOT NULL,
    source_file text NOT NULL,
    line bigint NOT NULL,
    column_name text NOT NULL,
    value text,
    rule text NOT NULL,
    expected text NOT NULL,
    record jsonb NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    replay_batch_id text,
    refused_at timestamp with time zone DEFAULT now() NOT NULL,
    closed_at timestamp with time zone,
    CONSTRAINT refused_row_state_check CHECK ((state = ANY (ARRAY['open'::text, 'replayed'::text, 'dismissed'::text])))
);

COMMENT ON TABLE quarantine.refused_row IS 'One row per refused line of a delivery, with the first rule it broke and the record as delivered.';

COMMENT ON COLUMN quarantine.refused_row.refused_row_id IS 'Number of the row, by which a repaired sheet names it.';

COMMENT ON COLUMN quarantine.refused_row.batch_id IS 'Batch that it was delivered with.';

COMMENT ON COLUMN quarantine.refused_row.dataset IS 'Dataset of that batch.';

COMMENT ON COLUMN quarantine.refused_row.partition IS 'Its partition.';

COMMENT ON COLUMN quarantine.refused_row.contract_version IS 'Version of the contract that refused it.';

COMMENT ON COLUMN quarantine.refused_row.source_file IS 'File that it stood in, by the sender''s name.';

COMMENT ON COLUMN quarantine.refused_row.line IS 'Its line there, the first one being 1.';

COMMENT ON COLUMN quarantine.refused_row.column_name IS 'Column at fault; empty where it is the whole line.';

COMMENT ON COLUMN quarantine.refused_row.value IS 'The refused value as delivered; sealed where the dataset has confidential columns.';

COMMENT ON COLUMN quarantine.refused_row.rule IS 'First rule that it broke.';

COMMENT ON COLUMN quarantine.refused_row.expected IS 'What that rule expects, in words.';

COMMENT ON COLUMN quarantine.refused_row.record IS 'The whole record as delivered; sealed alike.';

COMMENT ON COLUMN quarantine.refused_row.state IS 'Whether it waits, was replayed, or was dismissed.';

COMMENT ON COLUMN quarantine.refused_row.replay_batch_id IS 'Batch that took it in, repaired.';

COMMENT ON COLUMN quarantine.refused_row.refused_at IS 'When it was refused.';

COMMENT ON COLUMN quarantine.refused_row.closed_at IS 'When it was replayed or dismissed.';

ALTER TABLE quarantine.refused_row ALTER COLUMN refused_row_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME quarantine.refused_row_refused_row_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY ops.approval
    ADD CONSTRAINT approval_pkey PRIMARY KEY (approval_id);

ALTER TABLE ONLY ops.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY ops.audit_seal
    ADD CONSTRAINT audit_seal_audit_id_key UNIQUE (audit_id);

ALTER TABLE ONLY ops.audit_seal
    ADD CONSTRAINT audit_seal_pkey PRIMARY KEY (place);

ALTER TABLE ONLY ops.backup
    ADD CONSTRAINT backup_pkey PRIMARY KEY (backup_id);

ALTER TABLE ONLY ops.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY ops.decision
    ADD CONSTRAINT decision_pkey PRIMARY KEY (decision_id);

ALTER TABLE ONLY ops.delivery_evidence
    ADD CONSTRAINT delivery_evidence_pkey PRIMARY KEY (delivery_id, evidence_id);

ALTER TABLE ONLY ops.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (delivery_id);

ALTER TABLE ONLY ops.delivery_work
    ADD CONSTRAINT delivery_work_pkey PRIMARY KEY (delivery_id, wave, role, attempt);

ALTER TABLE ONLY ops.encryption_key
    ADD CONSTRAINT encryption_key_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY ops.erasure
    ADD CONSTRAINT erasure_pkey PRIMARY KEY (erasure_id);

ALTER TABLE ONLY ops.evidence
    ADD CONSTRAINT evidence_pkey PRIMARY KEY (evidence_sha256);

ALTER TABLE ONLY ops.fence
    ADD CONSTRAINT fence_pkey PRIMARY KEY (subject);

ALTER TABLE ONLY ops.marts_build
    ADD CONSTRAINT marts_build_pkey PRIMARY KEY (build_id);

ALTER TABLE ONLY ops.marts_swap
    ADD CONSTRAINT marts_swap_pkey PRIMARY KEY (swap_id);

ALTER TABLE ONLY ops.migration
    ADD CONSTRAINT migration_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY ops.release
    ADD CONSTRAINT release_pkey PRIMARY KEY (version);

ALTER TABLE ONLY ops.schema_change
    ADD CONSTRAINT schema_change_pkey PRIMARY KEY (schema_change_id);

ALTER TABLE ONLY ops.step
    ADD CONSTRAINT step_pkey PRIMARY KEY (step_id);

ALTER TABLE ONLY ops.stream_batch
    ADD CONSTRAINT stream_batch_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY ops.stream_gap
    ADD CONSTRAINT stream_gap_pkey PRIMARY KEY (gap_id);

ALTER TABLE ONLY ops.stream_hold
    ADD CONSTRAINT stream_hold_pkey PRIMARY KEY (hold_id);

ALTER TABLE ONLY ops.stream_mart
    ADD CONSTRAINT stream_mart_pkey PRIMARY KEY (mart);

ALTER TABLE ONLY ops.stream_offset
    ADD CONSTRAINT stream_offset_pkey PRIMARY KEY (dataset, topic_partition);

ALTER TABLE ONLY ops.stream_partition
    ADD CONSTRAINT stream_partition_pkey PRIMARY KEY (dataset, partition);

ALTER TABLE ONLY ops.stream_range
    ADD CONSTRAINT stream_range_pkey PRIMARY KEY (batch_id, topic_partition);

ALTER TABLE ONLY ops.stream_reconciled
    ADD CONSTRAINT stream_reconciled_pkey PRIMARY KEY (dataset, topic_incarnation, topic_partition);

ALTER TABLE ONLY ops.table_layout
    ADD CONSTRAINT table_layout_pkey PRIMARY KEY (dataset);

ALTER TABLE ONLY ops.tenant_login
    ADD CONSTRAINT tenant_login_pkey PRIMARY KEY (login);

ALTER TABLE ONLY ops.verdict
    ADD CONSTRAINT verdict_pkey PRIMARY KEY (verdict_id);

ALTER TABLE ONLY quarantine.refused_message
    ADD CONSTRAINT refused_message_batch_id_topic_partition_message_offset_key UNIQUE (batch_id, topic_partition, message_offset);

ALTER TABLE ONLY quarantine.refused_message
    ADD CONSTRAINT refused_message_pkey PRIMARY KEY (refused_message_id);

ALTER TABLE ONLY quarantine.refused_row
    ADD CONSTRAINT refused_row_batch_id_source_file_line_key UNIQUE (batch_id, source_file, line);

ALTER TABLE ONLY quarantine.refused_row
    ADD CONSTRAINT refused_row_pkey PRIMARY KEY (refused_row_id);

CREATE INDEX approval_by_delivery ON ops.approval USING btree (delivery_id);

COMMENT ON INDEX ops.approval_by_delivery IS 'For its foreign key: what was decided about a delivery, in order.';

CREATE INDEX audit_by_time ON ops.audit USING btree (occurred_at);

COMMENT ON INDEX ops.audit_by_time IS 'What happened since a moment: tidegate audit list --since.';

CREATE INDEX backup_by_base ON ops.backup USING btree (based_on) WHERE (based_on IS NOT NULL);

COMMENT ON INDEX ops.backup_by_base IS 'For its foreign key: which incremental backups hang on a full one.';

CREATE INDEX batch_by_dataset ON ops.batch USING btree (dataset, partition, created_at);

COMMENT ON INDEX ops.batch_by_dataset IS 'The batches of a dataset or a partition in the order of their arrival: tidegate batch list.';

CREATE INDEX batch_by_previous ON ops.batch USING btree (previous_batch_id) WHERE (previous_batch_id IS NOT NULL);

COMMENT ON INDEX ops.batch_by_previous IS 'For its foreign key: which batch replaced this one.';

CREATE UNIQUE INDEX batch_published_once ON ops.batch USING btree (dataset, partition) WHERE (state = 'published'::text);

COMMENT ON INDEX ops.batch_published_once IS 'At most one batch of a partition is visible.';

CREATE INDEX decision_by_subject ON ops.decision USING btree (subject, decision_id);

COMMENT ON INDEX ops.decision_by_subject IS 'What people decided about one batch or build, in order.';

CREATE INDEX delivery_evidence_by_evidence ON ops.delivery_evidence USING btree (evidence_sha256);

COMMENT ON INDEX ops.delivery_evidence_by_evidence IS 'For its foreign key: which deliveries rest on a piece of evidence.';

CREATE UNIQUE INDEX delivery_one_at_a_time ON ops.delivery USING btree (team) WHERE (finished_at IS NULL);

COMMENT ON INDEX ops.delivery_one_at_a_time IS 'A team works on one delivery at a time.';

CREATE UNIQUE INDEX marts_published_once ON ops.marts_build USING btree ((true)) WHERE (state = 'published'::text);

COMMENT ON INDEX ops.marts_published_once IS 'At most one set of marts is visible.';

CREATE INDEX marts_swap_by_build ON ops.marts_swap USING btree (build_id);

COMMENT ON INDEX ops.marts_swap_by_build IS 'For its foreign key: when a build was shown.';

CREATE INDEX release_by_delivery ON ops.release USING btree (delivery_id);

COMMENT ON INDEX ops.release_by_delivery IS 'For its foreign key: what a delivery released.';

CREATE INDEX schema_change_by_name ON ops.schema_change USING btree (name, schema_change_id);

COMMENT ON INDEX ops.schema_change_by_name IS 'When a migration was last applied: tidegate migrate status.';

CREATE INDEX step_by_subject ON ops.step USING btree (subject, step_id);

COMMENT ON INDEX ops.step_by_subject IS 'The steps of one batch or build, in order: tidegate batch show, the report.';

CREATE INDEX stream_batch_by_dataset ON ops.stream_batch USING btree (dataset, committed_at);

COMMENT ON INDEX ops.stream_batch_by_dataset IS 'The newest micro-batches of a dataset: the share refused lately, throughput, latency.';

CREATE INDEX stream_batch_by_transaction ON ops.stream_batch USING btree (dataset, transaction_id) WHERE (transaction_id IS NOT NULL);

COMMENT ON INDEX ops.stream_batch_by_transaction IS 'The micro-batches that became visible since a live mart was refreshed.';

CREATE INDEX stream_gap_by_dataset ON ops.stream_gap USING btree (dataset);

COMMENT ON INDEX ops.stream_gap_by_dataset IS 'What was lost of a dataset.';

CREATE UNIQUE INDEX stream_hold_one_at_a_time ON ops.stream_hold USING btree (dataset) WHERE (released_at IS NULL);

COMMENT ON INDEX ops.stream_hold_one_at_a_time IS 'A stream is held once, however many workers find a reason.';

CREATE INDEX verdict_by_evidence ON ops.verdict USING btree (evidence_sha256);

COMMENT ON INDEX ops.verdict_by_evidence IS 'For its foreign key: which verdicts rest on a piece of evidence.';

CREATE INDEX verdict_by_subject ON ops.verdict USING btree (subject, gate);

COMMENT ON INDEX ops.verdict_by_subject IS 'What the gates said of one batch or build: every judgement, tidegate batch show.';

CREATE INDEX refused_message_by_dataset ON quarantine.refused_message USING btree (dataset, state);

COMMENT ON INDEX quarantine.refused_message_by_dataset IS 'What waits for repair.';

CREATE INDEX refused_message_uncopied ON quarantine.refused_message USING btree (dataset) WHERE (copied_at IS NULL);

COMMENT ON INDEX quarantine.refused_message_uncopied IS 'What is still to be copied to the topic of dead letters.';

CREATE INDEX refused_row_open ON quarantine.refused_row USING btree (dataset, partition) WHERE (state = 'open'::text);

COMMENT ON INDEX quarantine.refused_row_open IS 'The rows of a partition that wait to be repaired; those that are closed stay out of it.';

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ops.audit FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_refuse();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ops.audit_seal FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_refuse();

CREATE CONSTRAINT TRIGGER chain AFTER INSERT ON ops.audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ops.audit_chain();

CREATE TRIGGER audit_delete AFTER DELETE ON quarantine.refused_row REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();

CREATE TRIGGER audit_insert AFTER INSERT ON quarantine.refused_row REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();

CREATE TRIGGER audit_truncate AFTER TRUNCATE ON quarantine.refused_row FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();

CREATE TRIGGER audit_update AFTER UPDATE ON quarantine.refused_row REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();

ALTER TABLE ONLY ops.approval
    ADD CONSTRAINT approval_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES ops.delivery(delivery_id);

ALTER TABLE ONLY ops.backup
    ADD CONSTRAINT backup_based_on_fkey FOREIGN KEY (based_on) REFERENCES ops.backup(backup_id);

ALTER TABLE ONLY ops.batch
    ADD CONSTRAINT batch_previous_batch_id_fkey FOREIGN KEY (previous_batch_id) REFERENCES ops.batch(batch_id);

ALTER TABLE ONLY ops.delivery_evidence
    ADD CONSTRAINT delivery_evidence_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES ops.delivery(delivery_id);

ALTER TABLE ONLY ops.delivery_evidence
    ADD CONSTRAINT delivery_evidence_evidence_sha256_fkey FOREIGN KEY (evidence_sha256) REFERENCES ops.evidence(evidence_sha256);

ALTER TABLE ONLY ops.delivery_work
    ADD CONSTRAINT delivery_work_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES ops.delivery(delivery_id);

ALTER TABLE ONLY ops.marts_swap
    ADD CONSTRAINT marts_swap_build_id_fkey FOREIGN KEY (build_id) REFERENCES ops.marts_build(build_id);

ALTER TABLE ONLY ops.release
    ADD CONSTRAINT release_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES ops.delivery(delivery_id);

ALTER TABLE ONLY ops.stream_range
    ADD CONSTRAINT stream_range_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES ops.stream_batch(batch_id);

ALTER TABLE ONLY ops.verdict
    ADD CONSTRAINT verdict_evidence_sha256_fkey FOREIGN KEY (evidence_sha256) REFERENCES ops.evidence(evidence_sha256);

ALTER TABLE ONLY quarantine.refused_message
    ADD CONSTRAINT refused_message_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES ops.stream_batch(batch_id);

GRANT USAGE ON SCHEMA core TO app;
GRANT USAGE ON SCHEMA core TO readonly;
GRANT USAGE ON SCHEMA core TO analyst;

GRANT USAGE ON SCHEMA masked TO readonly;
GRANT USAGE ON SCHEMA masked TO analyst;

GRANT USAGE ON SCHEMA ops TO app;
GRANT USAGE ON SCHEMA ops TO readonly;
GRANT USAGE ON SCHEMA ops TO analyst;

GRANT USAGE ON SCHEMA raw TO app;
GRANT USAGE ON SCHEMA raw TO readonly;

REVOKE ALL ON FUNCTION ops.audit_chain() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.audit_ddl() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.audit_refuse() FROM PUBLIC;

GRANT SELECT ON TABLE ops.audit TO admin;

REVOKE ALL ON FUNCTION ops.audit_text(line ops.audit, place bigint, before text) FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.audit_write() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.enter(tenant text) FROM PUBLIC;
GRANT ALL ON FUNCTION ops.enter(tenant text) TO app;

REVOKE ALL ON FUNCTION ops.enter_all() FROM PUBLIC;

REVOKE ALL ON FUNCTION ops.refresh_mart(wanted regclass) FROM PUBLIC;

GRANT SELECT ON TABLE ops.tenant_login TO app;
GRANT SELECT ON TABLE ops.tenant_login TO readonly;

GRANT SELECT ON TABLE ops.approval TO app;
GRANT SELECT ON TABLE ops.approval TO readonly;

GRANT SELECT ON TABLE ops.audit_seal TO admin;

GRANT SELECT ON TABLE ops.backup TO app;
GRANT SELECT ON TABLE ops.backup TO readonly;

GRANT SELECT ON TABLE ops.batch TO app;
GRANT SELECT ON TABLE ops.batch TO readonly;

GRANT UPDATE(state) ON TABLE ops.batch TO app;

GRANT UPDATE(held_reason) ON TABLE ops.batch TO app;

GRANT SELECT,INSERT ON TABLE ops.decision TO app;
GRANT SELECT ON TABLE ops.decision TO readonly;

GRANT SELECT ON TABLE ops.delivery TO app;
GRANT SELECT ON TABLE ops.delivery TO readonly;

GRANT SELECT ON TABLE ops.delivery_evidence TO app;
GRANT SELECT ON TABLE ops.delivery_evidence TO readonly;

GRANT SELECT ON TABLE ops.delivery_work TO app;
GRANT SELECT ON TABLE ops.delivery_work TO readonly;

GRANT SELECT ON TABLE ops.encryption_key TO app;
GRANT SELECT ON TABLE ops.encryption_key TO readonly;

GRANT SELECT ON TABLE ops.erasure TO admin;

GRANT SELECT ON TABLE ops.evidence TO app;
GRANT SELECT ON TABLE ops.evidence TO readonly;

GRANT SELECT ON TABLE ops.fence TO app;
GRANT SELECT ON TABLE ops.fence TO readonly;

GRANT SELECT ON TABLE ops.marts_build TO app;
GRANT SELECT ON TABLE ops.marts_build TO readonly;

GRANT UPDATE(state) ON TABLE ops.marts_build TO app;

GRANT UPDATE(held_reason) ON TABLE ops.marts_build TO app;

GRANT SELECT ON TABLE ops.marts_swap TO app;
GRANT SELECT ON TABLE ops.marts_swap TO readonly;

GRANT SELECT ON TABLE ops.migration TO app;
GRANT SELECT ON TABLE ops.migration TO readonly;

GRANT SELECT ON TABLE ops.release TO app;
GRANT SELECT ON TABLE ops.release TO readonly;

GRANT SELECT ON TABLE ops.schema_change TO app;
GRANT SELECT ON TABLE ops.schema_change TO readonly;

GRANT SELECT,INSERT ON TABLE ops.step TO app;
GRANT SELECT ON TABLE ops.step TO readonly;

GRANT SELECT ON TABLE ops.stream_batch TO app;
GRANT SELECT ON TABLE ops.stream_batch TO readonly;

GRANT SELECT ON TABLE ops.stream_gap TO app;
GRANT SELECT ON TABLE ops.stream_gap TO readonly;

GRANT SELECT ON TABLE ops.stream_hold TO app;
GRANT SELECT ON TABLE ops.stream_hold TO readonly;

GRANT SELECT ON TABLE ops.stream_mart TO app;
GRANT SELECT ON TABLE ops.stream_mart TO readonly;

GRANT SELECT ON TABLE ops.stream_offset TO app;
GRANT SELECT ON TABLE ops.stream_offset TO readonly;

GRANT SELECT ON TABLE ops.stream_partition TO app;
GRANT SELECT ON TABLE ops.stream_partition TO readonly;

GRANT SELECT ON TABLE ops.stream_range TO app;
GRANT SELECT ON TABLE ops.stream_range TO readonly;

GRANT SELECT ON TABLE ops.stream_reconciled TO app;
GRANT SELECT ON TABLE ops.stream_reconciled TO readonly;

GRANT SELECT ON TABLE ops.table_layout TO app;
GRANT SELECT ON TABLE ops.table_layout TO readonly;

GRANT SELECT ON TABLE ops.verdict TO app;
GRANT SELECT ON TABLE ops.verdict TO readonly;

ALTER DEFAULT PRIVILEGES FOR ROLE tidegate IN SCHEMA ops GRANT SELECT ON TABLES  TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE tidegate IN SCHEMA ops GRANT SELECT ON TABLES  TO readonly;
