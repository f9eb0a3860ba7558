/**
 * `npm run bench`: packets and mappings (packets.ts); `npm run bench -- dns`: resolver and DNS agent (dns.ts); `npm run bench -- operator`: the operator against
 * a real API server (operator.ts); `npm run bench -- start`: how long packets wait for a gateway that starts again (start.ts).
 */
const benches: Readonly<Record<string, string>> = { dns: './dns.ts', operator: './operator.ts', start: './start.ts' }
await import(benches[process.argv[2] ?? ''] ?? './packets.ts')
