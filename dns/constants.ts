/** Numbers of the DNS (IANA, "Domain Name System (DNS) Parameters"). */
export const Type = {
  A: 1,
  NS: 2,
  MD: 3,
  MF: 4,
  CNAME: 5,
  SOA: 6,
  MB: 7,
  MG: 8,
  MR: 9,
  NULL: 10,
  PTR: 12,
  HINFO: 13,
  MINFO: 14,
  MX: 15,
  TXT: 16,
  RP: 17,
  AFSDB: 18,
  RT: 21,
  PX: 26,
  AAAA: 28,
  SRV: 33,
  NAPTR: 35,
  KX: 36,
  DNAME: 39,
  OPT: 41,
  DS: 43,
  SSHFP: 44,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  TLSA: 52,
  CDS: 59,
  SVCB: 64,
  HTTPS: 65,
  SPF: 99,
  TSIG: 250,
  IXFR: 251,
  AXFR: 252,
  MAILB: 253,
  MAILA: 254,
  ANY: 255,
  CAA: 257,
} as const

export const Class = { IN: 1, CH: 3, NONE: 254, ANY: 255 } as const

export const Opcode = { QUERY: 0, NOTIFY: 4, UPDATE: 5 } as const

export const Rcode = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  YXDOMAIN: 6,
  YXRRSET: 7,
  NXRRSET: 8,
  NOTAUTH: 9,
  NOTZONE: 10,
  BADVERS: 16,
  BADSIG: 16,
  BADKEY: 17,
  BADTIME: 18,
  BADTRUNC: 22,
} as const

/** Bits of the second 16-bit word of the header (RFC 1035 section 4.1.1, RFC 4035). */
export const Flag = {
  QR: 0x8000,
  AA: 0x0400,
  TC: 0x0200,
  RD: 0x0100,
  RA: 0x0080,
  Z: 0x0040,
  AD: 0x0020,
  CD: 0x0010,
} as const

/** EDNS options (RFC 7873, RFC 8914, …) */
export const EdnsOption = {
  NSID: 3,
  CLIENT_SUBNET: 8,
  COOKIE: 10,
  KEEPALIVE: 11,
  PADDING: 12,
  EXTENDED_ERROR: 15,
} as const

/** Services that may answer anything: echo, daytime, quote, chargen, time, DNS, TFTP, NTP, and the tunnel. Told of errors, two could talk for ever (CVE-2024-2169). */
export const servicePorts: ReadonlySet<number> = new Set([7, 13, 17, 19, 37, 53, 69, 123, 1045])

/** Extended DNS errors (RFC 8914 section 4) */
export const ExtendedError = {
  other: 0,
  staleAnswer: 3,
  prohibited: 18,
  notReady: 14,
  networkError: 23,
  noReachableAuthority: 22,
} as const

const typeNames = new Map<number, string>(Object.entries(Type).map(([name, value]) => [value, name]))
const rcodeNames = new Map<number, string>()
for (const [name, value] of Object.entries(Rcode)) if (!rcodeNames.has(value)) rcodeNames.set(value, name)

/** `A`, or `TYPE65280` (RFC 3597 section 5). */
export function formatType(type: number): string {
  return typeNames.get(type) ?? `TYPE${type}`
}

export function parseType(text: string): number | undefined {
  const upper = text.toUpperCase()
  const known = (Type as Record<string, number>)[upper]
  if (known !== undefined) return known
  const number = /^TYPE(\d{1,5})$/.exec(upper)?.[1]
  return number !== undefined && Number(number) <= 65535 ? Number(number) : undefined
}

export function formatRcode(rcode: number): string {
  return rcodeNames.get(rcode) ?? `RCODE${rcode}`
}
