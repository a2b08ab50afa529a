-- Kuma's table of resources, as its eleven migrations leave it, in our words.
-- Source: kumahq/kuma, pkg/plugins/resources/postgres/migrations/data (up to the columns
-- labels and status), Apache-2.0.

CREATE TABLE resources (
    name varchar(253) NOT NULL,
    mesh varchar(100) NOT NULL,
    type varchar(100) NOT NULL,
    version integer NOT NULL,
    spec text,
    creation_time timestamp NOT NULL DEFAULT now(),
    modification_time timestamp NOT NULL DEFAULT now(),
    owner_name varchar(100),
    owner_mesh varchar(100),
    owner_type varchar(100),
    labels jsonb DEFAULT '{}',
    status jsonb DEFAULT '{}',
    CONSTRAINT resources_pkey PRIMARY KEY (name, mesh, type),
    CONSTRAINT owner_fk FOREIGN KEY (owner_name, owner_mesh, owner_type)
        REFERENCES resources (name, mesh, type) ON DELETE CASCADE
);
CREATE INDEX owner_fk_index ON resources (owner_type, owner_mesh, owner_name);

-- One notification a row, which names the action and the resource.
CREATE FUNCTION notify_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed resources;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
    END IF;
    PERFORM pg_notify('resource_events', json_build_object(
        'action', TG_OP,
        'data', json_build_object(
            'name', changed.name, 'mesh', changed.mesh, 'type', changed.type))::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER resources_notify AFTER INSERT OR UPDATE OR DELETE ON resources
    FOR EACH ROW EXECUTE FUNCTION notify_event();
