-- One event as a JSON array, in the order of StoredEvent's fields. Put into the
-- statements that read events, in place of /*event*/. Texts that patterns keep free of
-- quotes are joined as they are; to_json only where quoting can be needed.
concat(
    '[', position, ',', commit, ',"', encode(uuid_send(tx), 'hex'), '",',
    round(date_part('epoch', recorded_at) * 1e6)::bigint, ',', to_json(actor), ',"',
    operation, '","', type, '/', mesh, '/', name, '",', schema_version, ',', body, ',"',
    encode(salt, 'base64'), '",',
    CASE WHEN body_digest IS NULL THEN 'null'
        ELSE concat('"', encode(body_digest, 'base64'), '"') END,
    ',', metadata, ',"', encode(hash, 'base64'), '"]')
