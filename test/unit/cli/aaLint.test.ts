/** `ipref aa lint` as people type it: files, transfers from our own zone server on loopback, exit codes, JSON. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Zone } from '../../../dns/zone.ts'
import { ZoneServer } from '../../../dns/zoneServer.ts'
import { parsePrefix } from '../../../ipref/address.ts'
import { APEX, key, name, records, zone } from '../dns/builders.ts'

const IPREF = join(import.meta.dirname, '../../../cli/ipref')
const SECRET = 'hmac-sha256:transfer:bXkgc2VjcmV0'
const folder = mkdtempSync(join(tmpdir(), 'ipref-lint-'))
const log = { info: () => {}, warn: () => {} }

/** Serves example.com and example.net; transfers need the key. */
let signed: { server: ZoneServer; text: string }
/** The same, to everybody. */
let open: { server: ZoneServer; text: string }

async function serve(keys: boolean): Promise<{ server: ZoneServer; text: string }> {
  const settings = {
    listen: [{ host: '127.0.0.1', port: 0 }],
    keys: keys ? [key(SECRET)] : [],
    transferKeys: keys ? [key(SECRET).name] : [],
    transferAllow: [parsePrefix('127.0.0.0/8')!],
    notify: [],
    notifyNameServers: false,
  }
  const server = new ZoneServer(settings, { log })
  const [{ port } = { port: 0 }] = await server.start()
  server.setZone(zone('gw A 198.51.100.1\nweb TXT "AA gw.example.com + 11"\nbad TXT "AA gw.example.com + 0"\n'))
  const net = name('example.net.')
  const text = `${APEX.replace('192.0.2.1', '127.0.0.1')}gw A 198.51.100.2\nalias CNAME gone\n`
  server.setZone(Zone.from(net, records(text, net)).zone!)
  return { server, text: `127.0.0.1:${port}` }
}

beforeAll(async () => {
  signed = await serve(true)
  open = await serve(false)
})
afterAll(async () => {
  await signed.server.stop()
  await open.server.stop()
  rmSync(folder, { recursive: true, force: true })
})

function lint(...args: string[]): Promise<{ code: number; out: string[]; err: string }> {
  return new Promise(resolve => {
    execFile(IPREF, ['aa', 'lint', ...args], { timeout: 150_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, out: stdout.trimEnd().split('\n'), err: stderr })
    })
  })
}

function file(called: string, text: string): string {
  const path = join(folder, called)
  writeFileSync(path, text)
  return path
}

describe('a file', () => {
  it('in order: one line, exit code 0; the gateway elsewhere is asked for', async () => {
    const path = file('good', `$ORIGIN example.com.\n${APEX}web TXT "AA gw.example.net + 11"\n`)
    expect(await lint(path, '-resolver', open.text)).toEqual({
      code: 0,
      out: ['1 AA record at 1 name in example.com.: 0 errors, 0 warnings'],
      err: '',
    })
  })

  it('with faults: FILE:LINE, severity, name, what, and what would be right', async () => {
    const path = file(
      'bad',
      `${APEX}web TXT "aa gw + 11"\nhost A 1.2.3\nfar TXT "AA alias.example.net + 11"\nfew 0 TXT "AA 198.51.100.1 + 11"\n`,
    )
    const { code, out } = await lint('--origin', 'example.com', path, '--resolver', open.text)
    expect(code).toBe(1)
    expect(out).toEqual([
      `${path}:5: error web.example.com.: AA is written in upper case: "aa gw + 11" — "AA gw + 11"`,
      `${path}:6: error: 1.2.3 is no IPv4 address: write A 192.0.2.1`,
      expect.stringMatching(
        /:7: error far\.example\.com\.: alias\.example\.net\. is an alias of gone\.example\.net\., which does not exist — /,
      ),
      `${path}:8: warning few.example.com.: TTL 0; every connection asks anew — 60 or more`,
      '2 AA records at 2 names in example.com.: 3 errors, 1 warning',
    ])
  })

  it('with warnings alone: exit code 0; a resolver that nobody runs is a warning', async () => {
    const path = file('warned', `$ORIGIN example.com.\n${APEX}web TXT "AA gw.example.net + 11"\n`)
    const { code, out } = await lint(path, '-resolver', '127.0.0.1:9')
    expect([code, out[0]]).toEqual([
      0,
      expect.stringContaining('gw.example.net could not be looked up: 127.0.0.1:9: no answer'),
    ])
  })

  it('knows its zone by the name of the SOA record', async () => {
    const path = file('soa', 'example.com. 60 SOA ns1.example.com. a.example.com. 1 1 1 1 1\n')
    expect((await lint(path)).out).toEqual(['0 AA records at 0 names in example.com.: 0 errors, 0 warnings'])
  })

  it.each<[string, () => string[], RegExp]>([
    ['no file', () => [join(folder, 'nothing')], /there is no such file/],
    ['a file that does not say which zone it is', () => [file('which', APEX)], /give -origin NAME/],
    ['nothing', () => [], /usage: ipref aa lint/],
    ['two', () => ['a', 'b'], /usage: ipref aa lint/],
    ['a flag that does not exist', () => ['a', '-sever', 'b'], /sever/],
    ['no address', () => ['example.com', '-server', 'ns1'], /-server: ns1 is no address/],
    ['no key', () => ['example.com', '-key', 'x'], /-key: write ALGORITHM:NAME:SECRET/],
    ['no file of a key', () => ['example.com', '-key', `@${join(folder, 'nokey')}`], /there is no such file/],
    ['no zone', () => ['no..name'], /neither a file nor a name/],
  ])('%s: exit code 2', async (_what, args, says) => {
    expect(await lint(...args())).toEqual({ code: 2, out: [''], err: expect.stringMatching(says) })
  })
})

describe('a zone by transfer', () => {
  it('from the server given', async () => {
    const { code, out } = await lint('example.com', '-server', open.text, '-resolver', open.text)
    expect([code, out]).toEqual([
      1,
      [
        `example.com.@${open.text}: error bad.example.com.: 0 is no reference — a number from 2 on`,
        '2 AA records at 2 names in example.com.: 1 error, 0 warnings',
      ],
    ])
  })

  it('with a key, from the command line or a file', async () => {
    const keyFile = file('key', `# of the secondary\n${SECRET}\n`)
    for (const given of [SECRET, `@${keyFile}`])
      expect((await lint('example.com', '-server', signed.text, '-key', given, '-resolver', open.text)).code).toBe(1)
    const refused = await lint('example.com', '-server', signed.text, '-resolver', open.text)
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('REFUSED')])
  })

  it('from the name servers of the zone, where none is given', async () => {
    // ns1 of the zone is this machine, where nobody serves it at port 53
    const { code, err } = await lint('example.net', '-resolver', open.text)
    expect([code, err]).toEqual([1, expect.stringContaining('example.net. from 127.0.0.1:53')])
  })

  it('as JSON', async () => {
    const { code, out } = await lint('example.com', '-json', '-server', open.text, '-resolver', open.text)
    expect(code).toBe(1)
    expect(JSON.parse(out.join('\n'))).toMatchObject({
      zone: 'example.com.',
      errors: 1,
      warnings: 0,
      aaRecords: 2,
      findings: [{ rule: 'reference-zero', severity: 'error', name: 'bad.example.com.' }],
    })
  })
})
