/**
 * Clients that others wrote resolve names with AA records through the resolver: dig, kdig, drill, the C libraries glibc and musl, and Node, over UDP and TCP,
 * to IPv4 and IPv6 listeners. C libraries ask port 53 alone and read /etc/resolv.conf, so all of it is in namespaces of its own.
 *
 *   unshare ─► lo, /etc/resolv.conf ─► clientsInside.ts: resolver on port 53
 *                                        ▲
 *   nsenter ─► a client ─────────────────┘
 *
 * What is not installed is skipped with its name.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { labSupport } from '../support/userNamespace.ts'
import { type Inside, OUTSIDE } from './clientsInside.ts'
import { has } from './programs.ts'

const TRIES = 5

const support = labSupport()
const isRoot = support.how === 'root'
const reason = support.how === 'none' ? ` (skipped: ${support.reason})` : ''

const PREPARE = `
ip link set lo up
ip address add ${OUTSIDE}/32 dev lo
# some ask for AAAA only where the host has an IPv6 address
ip address add fd00:1::9/128 dev lo nodad
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
mount -t tmpfs tmpfs /run
shift
exec "$@"
`

let folder: string
let child: ChildProcess
let inside: Inside

beforeAll(async () => {
  if (support.how === 'none') return
  folder = mkdtempSync(join(tmpdir(), 'ipref-clients-'))
  useNameserver('127.0.0.1')
  writeFileSync(join(folder, 'nsswitch.conf'), 'hosts: files dns\n')
  const user = isRoot ? [] : ['--user', '--map-root-user']
  const unshare = [...user, '--net', '--mount', '--propagation', 'private', 'sh', '-ec', PREPARE, 'sh', folder]
  child = spawn('unshare', [...unshare, process.execPath, join(import.meta.dirname, 'clientsInside.ts')], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let errors = ''
  child.stderr!.on('data', (data: Buffer) => (errors += data.toString()))
  inside = await new Promise((resolve, reject) => {
    let line = ''
    child.stdout!.on('data', (data: Buffer) => {
      line += data.toString()
      if (line.includes('\n')) resolve(JSON.parse(line) as Inside)
    })
    child.on('exit', code => reject(new Error(`the resolver ended with ${code}: ${errors}`)))
  })
})

afterAll(async () => {
  if (!child) return
  const ended = new Promise(resolve => child.on('exit', resolve))
  child.stdin!.end()
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000)
  if (child.exitCode === null) await ended
  clearTimeout(timer)
  rmSync(folder, { recursive: true, force: true })
})

// the same file: it is mounted
function useNameserver(address: string): void {
  writeFileSync(join(folder, 'resolv.conf'), `nameserver ${address}\noptions attempts:5 timeout:5\n`)
}

interface Ran {
  code: number | null
  lines: string[]
  errors: string
}

function run(argv: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  const user = isRoot ? [] : ['--user', '--preserve-credentials']
  const enter = ['--target', `${child.pid}`, ...user, '--net', '--mount', '--', ...argv]
  return new Promise(resolve => {
    const client = spawn('nsenter', enter, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
      env: { ...process.env, ...env },
    })
    let [output, errors] = ['', '']
    client.stdout.on('data', (data: Buffer) => (output += data.toString()))
    client.stderr.on('data', (data: Buffer) => (errors += data.toString()))
    client.on('close', code => resolve({ code, lines: output.split('\n').filter(line => line !== ''), errors }))
  })
}

/** A client may be told that the mapper is late, on a busy machine: then it is run again, some times. What it found at last. */
async function found<Value>(
  expected: Value,
  read: (ran: Ran) => Value,
  argv: readonly string[],
  env = {},
): Promise<Value> {
  const wanted = JSON.stringify(expected)
  let value = read(await run(argv, env))
  for (let tries = 1; tries < TRIES && JSON.stringify(value) !== wanted; tries++) value = read(await run(argv, env))
  return value
}

const names = ['web', 'WEB', 'named', 'multi', 'alias', 'many', 'a.b.wild', 'plain']
const isAddress = (line: string) => /^(\d+\.){3}\d+$|^[0-9a-f:]+:[0-9a-f:]*$/.test(line)
const addressesIn = (ran: Ran) => [...new Set(ran.lines.map(line => line.split(/\s+/)[0]!).filter(isAddress))].sort()
const reverseOf = (address: string) => `${address.split('.').reverse().join('.')}.in-addr.arpa`

describe.skipIf(support.how === 'none')(`clients of the resolver${reason}`, () => {
  const tools: [string, string, (server: string, name: string, type: string, isTcp: boolean) => string[]][] = [
    [
      'dig',
      'dig',
      (server, name, type, isTcp) => [
        'dig',
        `@${server}`,
        '+short',
        '+tries=5',
        ...(isTcp ? ['+tcp'] : []),
        name,
        type,
      ],
    ],
    [
      'kdig',
      'kdig',
      (server, name, type, isTcp) => [
        'kdig',
        `@${server}`,
        '+short',
        '+retry=5',
        ...(isTcp ? ['+tcp'] : []),
        name,
        type,
      ],
    ],
    ['drill', 'drill', (server, name, type, isTcp) => ['drill', ...(isTcp ? ['-t'] : []), `@${server}`, name, type]],
  ]
  for (const [title, program, argv] of tools) {
    const isHere = has(program)
    for (const server of ['127.0.0.1', '::1'])
      for (const isTcp of [false, true])
        it.skipIf(!isHere)(
          `${title} to ${server} over ${isTcp ? 'TCP' : 'UDP'}${isHere ? '' : ` (skipped: ${program} is not installed)`}`,
          async () => {
            // drill stays with UDP when an answer is cut
            const some = names.filter(name => name !== 'many' || isTcp || program !== 'drill')
            const read = (ran: Ran) => addressesOf(program, ran)
            const ask = async (name: string, type: string, expected: string[]) => {
              const ofClient = await found(expected, read, argv(server, `${name}.example.com`, type, isTcp))
              expect(ofClient, `${name} ${type}`).toEqual(expected)
            }
            await Promise.all(
              some.flatMap(name => [ask(name, 'A', inside.v4[name]!), ask(name, 'AAAA', inside.v6[name]!)]),
            )
            const [address] = inside.v4.multi!
            const back = await run(argv(server, reverseOf(address!), 'PTR', isTcp))
            expect(back.lines.join('\n')).toContain('multi.example.com.')
            expect((await run(argv(server, 'none.example.com', 'A', isTcp))).lines.filter(isAddress)).toEqual([])
          },
        )
  }

  const glibc = has('getent')
  for (const [way, server, options] of [
    ['UDP, IPv4', '127.0.0.1', {}],
    ['UDP, IPv6', '::1', {}],
    ['TCP, IPv4', '127.0.0.1', { RES_OPTIONS: 'use-vc' }],
    ['TCP, IPv6', '::1', { RES_OPTIONS: 'use-vc' }],
    ['UDP with EDNS', '127.0.0.1', { RES_OPTIONS: 'edns0' }],
  ] as const)
    it.skipIf(!glibc)(`glibc over ${way}${glibc ? '' : ' (skipped: getent is not installed)'}`, async () => {
      useNameserver(server)
      await Promise.all(
        names.map(async name => {
          const expected = [...inside.v4[name]!, ...inside.v6[name]!].sort()
          const ofClient = await found(expected, addressesIn, ['getent', 'ahosts', `${name}.example.com`], options)
          expect(ofClient, name).toEqual(expected)
        }),
      )
      const back = await run(['getent', 'hosts', inside.v4.multi![0]!], options)
      expect(back.lines.join('\n')).toMatch(/\smulti\.example\.com$/)
      expect((await run(['getent', 'ahosts', 'none.example.com'], options)).code).toBe(2)
    })

  const musl = has('musl-gcc')
  for (const server of ['127.0.0.1', '::1'])
    it.skipIf(!musl)(`musl over UDP to ${server}${musl ? '' : ' (skipped: musl-gcc is not installed)'}`, async () => {
      useNameserver(server)
      const program = join(folder, 'resolve')
      const source = join(import.meta.dirname, 'resolveWithLibc.c')
      const built = spawnSync('musl-gcc', ['-static', '-o', program, source], { encoding: 'utf8' })
      expect(built.status, built.stderr).toBe(0)
      // before musl 1.2.4 a cut answer is all that there is: `many` is not for it
      const some = names.filter(name => name !== 'many')
      await Promise.all(
        some.map(async name => {
          const expected = [...inside.v4[name]!, ...inside.v6[name]!].sort()
          const ofClient = await found(expected, addressesIn, [program, 'addresses', `${name}.example.com`])
          expect(ofClient, name).toEqual(expected)
        }),
      )
      expect((await run([program, 'name', inside.v4.multi![0]!])).lines).toEqual(['multi.example.com'])
      expect(await run([program, 'addresses', 'none.example.com'])).toMatchObject({
        code: 1,
        lines: ['Name does not resolve'],
      })
    })

  for (const server of ['127.0.0.1', '[::1]'])
    it(`Node to ${server}: its own resolver, and that of the system`, async () => {
      useNameserver(server.replace(/[[\]]/g, ''))
      const script = `
        const { Resolver, lookup } = require('node:dns').promises
        const resolver = new Resolver({ timeout: 5000, tries: 5 })
        resolver.setServers([process.argv[1]])
        const names = JSON.parse(process.argv[2])
        const found = {}
        Promise.all(names.map(async name => {
          const full = name + '.example.com'
          const [v4, v6, all] = await Promise.all([resolver.resolve4(full), resolver.resolve6(full), lookup(full, { all: true })])
          found[name] = { v4: v4.sort(), v6: v6.sort(), all: [...new Set(all.map(one => one.address))].sort() }
        })).then(async () => {
          found.reverse = await resolver.reverse(process.argv[3])
          found.none = await resolver.resolve4('none.example.com').catch(error => error.code)
          const ordered = {}
          for (const name of [...names, 'reverse', 'none']) ordered[name] = found[name]
          console.log(JSON.stringify(ordered))
        })`
      const expected = Object.fromEntries([
        ...names.map(name => {
          const [v4, v6] = [inside.v4[name]!, inside.v6[name]!]
          return [name, { v4, v6, all: [...v4, ...v6].sort() }]
        }),
        ['reverse', ['multi.example.com']],
        ['none', 'ENOTFOUND'],
      ])
      const read = (ran: Ran): unknown => (ran.lines[0] ? JSON.parse(ran.lines[0]) : ran.errors)
      const argv = [process.execPath, '-e', script, server, JSON.stringify(names), inside.v4.multi![0]!]
      expect(await found(expected, read, argv)).toEqual(expected)
    })

  it('whoever is outside local networks is refused by default, over UDP and TCP', async () => {
    const script = `
      const { createSocket } = require('node:dgram')
      const { connect } = require('node:net')
      const query = Buffer.from('123401000001000000000000037765620765786d61706c6503636f6d0000010001', 'hex')
      const socket = createSocket('udp4')
      socket.on('message', bytes => {
        socket.close()
        const tcp = connect({ host: process.argv[1], port: 53, localAddress: process.argv[1] })
        let got = 0
        tcp.on('data', data => (got += data.length))
        tcp.on('close', () => console.log((bytes[3] & 15) + ' ' + bytes.length + ' ' + query.length + ' ' + got))
        tcp.write(Buffer.concat([Buffer.from([0, query.length]), query]))
      })
      socket.bind(0, process.argv[1], () => socket.send(query, 53, process.argv[1]))`
    const ran = await run([process.execPath, '-e', script, OUTSIDE])
    expect(ran.lines, ran.errors).toHaveLength(1)
    const [rcode, length, asked, overTcp] = ran.lines[0]!.split(' ').map(Number)
    expect([rcode, overTcp]).toEqual([5, 0])
    expect(length).toBeLessThanOrEqual(asked!)
  })

  it('whoever is outside and allowed gets some answers a second, short ones; beyond, cut ones and nothing', async () => {
    const script = `
      const { createSocket } = require('node:dgram')
      const socket = createSocket('udp4')
      const start = Date.now()
      const got = { full: 0, cut: 0, longest: 0 }
      const query = label => Buffer.concat([
        Buffer.from('123401000001000000000001', 'hex'), Buffer.from([label.length]), Buffer.from(label),
        Buffer.from('076578616d706c6503636f6d0000010001', 'hex'), Buffer.from('0000290fa0000000000000', 'hex')])
      socket.on('message', bytes => {
        got.longest = Math.max(got.longest, bytes.length)
        if (bytes[2] & 2) got.cut++
        else got.full++
        // what is cut is answered at once, the others when their addresses are known
        if (got.cut < 20 || got.full === 0) return
        console.log(JSON.stringify({ ...got, seconds: Math.ceil((Date.now() - start) / 1000) + 1 }))
        process.exit()
      })
      socket.bind(0, process.argv[1], () => setInterval(() => {
        for (const label of ['web', 'many', 'web']) socket.send(query(label), 54, process.argv[1])
      }, 10))`
    const ran = await run([process.execPath, '-e', script, OUTSIDE])
    expect(ran.lines, ran.errors).toHaveLength(1)
    const { full, cut, longest, seconds } = JSON.parse(ran.lines[0]!) as {
      full: number
      cut: number
      longest: number
      seconds: number
    }
    expect(full).toBeGreaterThan(0)
    expect(full).toBeLessThanOrEqual(5 * (seconds + 1))
    expect(cut).toBeGreaterThanOrEqual(20)
    // "web" with an OPT record has 44 bytes
    expect(longest).toBeLessThanOrEqual(10 * 45)
  })
})

function addressesOf(program: string, ran: Ran): string[] {
  if (program !== 'drill') return ran.lines.filter(isAddress).sort()
  const records = ran.lines.filter(line => /\sIN\s+(A|AAAA)\s/.test(line) && !line.startsWith(';'))
  return records
    .filter(line => !line.startsWith('ns1.'))
    .map(line => line.split(/\s+/).at(-1)!)
    .sort()
}
