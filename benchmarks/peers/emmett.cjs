// Run by emmett.py: node emmett.cjs CONNECTION CLIENTS MILLISECONDS SPEC

const { randomUUID } = require("node:crypto");
const { Pool } = require("pg");
const { getPostgreSQLEventStore } = require("@event-driven-io/emmett-postgresql");

async function main() {
  const [connection, clients, milliseconds, spec] = process.argv.slice(2);
  const pool = new Pool({ connectionString: connection, max: Number(clients) });
  const store = getPostgreSQLEventStore(connection, {
    connectionOptions: { pool },
  });
  const events = [{ type: "Updated", data: JSON.parse(spec) }];
  const append = async (stream, version) => {
    const options = { expectedStreamVersion: version };
    const { nextExpectedStreamVersion } = await store.appendToStream(stream, events, options);
    return nextExpectedStreamVersion;
  };
  const latencies = [];
  const streams = Array.from({ length: Number(clients) }, () => `dataplane-${randomUUID()}`);
  // The first append of all makes the tables; the first of each opens its connection.
  const versions = [await append(streams[0], "STREAM_DOES_NOT_EXIST")];
  await Promise.all(
    streams.slice(1).map(async (stream, index) => {
      versions[index + 1] = await append(stream, "STREAM_DOES_NOT_EXIST");
    }),
  );
  const ended = performance.now() + Number(milliseconds);
  await Promise.all(
    streams.map(async (stream, index) => {
      let version = versions[index];
      for (let called = performance.now(); called < ended; called = performance.now()) {
        version = await append(stream, version);
        const now = performance.now();
        if (now <= ended) latencies.push((now - called) / 1e3);
      }
    }),
  );
  await store.close();
  await pool.end().catch(() => {}); // the store may have ended it
  const found = { count: latencies.length, seconds: Number(milliseconds) / 1e3, latencies };
  // An exit does not wait for what a pipe has not taken yet.
  await new Promise((written) => process.stdout.write(`${JSON.stringify(found)}\n`, written));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
