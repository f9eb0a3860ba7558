/** `npm run bench`: packets and mappings (packets.ts); `npm run bench -- dns`: resolver and DNS agent (dns.ts). */
await import(process.argv[2] === 'dns' ? './dns.ts' : './packets.ts')
