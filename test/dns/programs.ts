/**
 * Name servers and clients that others wrote, each run in the foreground as a child of the test, in a folder of its own, on a port of 127.0.0.1.
 *
 * Programs are ended by their id. What a server wrote is kept for the report of a test that fails.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const HOST = '127.0.0.1'
export const SECRET = 'c2VjcmV0IG9mIHRoZSB0cmFuc2Zlcg=='
export const WRONG_SECRET = 'YW5vdGhlciBzZWNyZXQ='

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

export function has(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`], { env, stdio: 'ignore' }).status === 0
}

export interface Server {
  port: number
  /** what it has written so far */
  log(): string
  /** reads its zone files again */
  reload(): void
  stop(): Promise<void>
}
export type Secondary = Server

export interface SecondarySettings {
  folder: string
  zone: string
  /** of our server */
  primaryPort: number
  port: number
  secret: string
}

/** How each program is told to be a secondary of ours, and started. */
export const secondaries: Readonly<
  Record<string, (settings: SecondarySettings) => { config: string; argv: string[] }>
> = {
  knotd: ({ folder, zone, primaryPort, port, secret }) => ({
    argv: ['-c', join(folder, 'conf')],
    config: `server:
    rundir: ${folder}
    listen: ${HOST}@${port}
database:
    storage: ${folder}
log:
  - target: stderr
    any: info
key:
  - id: transfer
    algorithm: hmac-sha256
    secret: ${secret}
remote:
  - id: primary
    address: ${HOST}@${primaryPort}
    key: transfer
acl:
  - id: notify
    key: transfer
    action: notify
  - id: compare
    address: ${HOST}
    action: transfer
zone:
  - domain: ${zone}
    storage: ${folder}
    master: primary
    acl: [notify, compare]
`,
  }),
  nsd: ({ folder, zone, primaryPort, port, secret }) => ({
    argv: ['-d', '-c', join(folder, 'conf')],
    config: `server:
    ip-address: ${HOST}@${port}
    server-count: 1
    username: ""
    chroot: ""
    database: ""
    zonesdir: "${folder}"
    zonelistfile: "${folder}/zone.list"
    pidfile: "${folder}/pid"
    xfrdfile: "${folder}/xfrd.state"
    xfrdir: "${folder}"
    xfrd-reload-timeout: 0
    verbosity: 2
remote-control:
    control-enable: no
key:
    name: transfer
    algorithm: hmac-sha256
    secret: "${secret}"
zone:
    name: ${zone}
    zonefile: "${folder}/zone"
    allow-notify: ${HOST} transfer
    request-xfr: AXFR ${HOST}@${primaryPort} transfer
    provide-xfr: ${HOST} NOKEY
`,
  }),
  named: ({ folder, zone, primaryPort, port, secret }) => ({
    argv: ['-g', '-n', '1', '-c', join(folder, 'conf')],
    config: `options {
    directory "${folder}";
    pid-file "${folder}/pid";
    session-keyfile "${folder}/session.key";
    managed-keys-directory "${folder}";
    listen-on port ${port} { ${HOST}; };
    listen-on-v6 { none; };
    recursion no;
    notify no;
    dnssec-validation no;
    allow-transfer { ${HOST}; };
};
controls { };
key "transfer" { algorithm hmac-sha256; secret "${secret}"; };
zone "${zone}" {
    type secondary;
    file "${folder}/zone";
    primaries { ${HOST} port ${primaryPort} key "transfer"; };
    allow-notify { key "transfer"; };
};
`,
  }),
}

export interface PrimarySettings {
  folder: string
  zone: string
  port: number
  secret: string
  /** who is told of changes, on HOST */
  notifyPort: number
}

/** How each program is told to be a primary of the zone in the file `zone`, which it reads again on SIGHUP. */
export const primaries: Readonly<Record<string, (settings: PrimarySettings) => { config: string; argv: string[] }>> = {
  knotd: ({ folder, zone, port, secret, notifyPort }) => ({
    argv: ['-c', join(folder, 'conf')],
    config: `server:
    rundir: ${folder}
    listen: ${HOST}@${port}
database:
    storage: ${folder}
log:
  - target: stderr
    any: info
key:
  - id: transfer
    algorithm: hmac-sha256
    secret: ${secret}
remote:
  - id: agent
    address: ${HOST}@${notifyPort}
    key: transfer
acl:
  - id: transfer
    key: transfer
    action: transfer
zone:
  - domain: ${zone}
    storage: ${folder}
    file: zone
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
    notify: agent
    acl: transfer
`,
  }),
  nsd: ({ folder, zone, port, secret, notifyPort }) => ({
    argv: ['-d', '-c', join(folder, 'conf')],
    config: `server:
    ip-address: ${HOST}@${port}
    server-count: 1
    username: ""
    chroot: ""
    database: ""
    zonesdir: "${folder}"
    zonelistfile: "${folder}/zone.list"
    pidfile: "${folder}/pid"
    xfrdfile: "${folder}/xfrd.state"
    xfrdir: "${folder}"
    verbosity: 2
remote-control:
    control-enable: no
key:
    name: transfer
    algorithm: hmac-sha256
    secret: "${secret}"
zone:
    name: ${zone}
    zonefile: "${folder}/zone"
    notify: ${HOST}@${notifyPort} transfer
    provide-xfr: ${HOST} transfer
`,
  }),
  named: ({ folder, zone, port, secret, notifyPort }) => ({
    argv: ['-g', '-n', '1', '-c', join(folder, 'conf')],
    config: `options {
    directory "${folder}";
    pid-file "${folder}/pid";
    session-keyfile "${folder}/session.key";
    managed-keys-directory "${folder}";
    listen-on port ${port} { ${HOST}; };
    listen-on-v6 { none; };
    recursion no;
    dnssec-validation no;
    notify-delay 0;
};
controls { };
key "transfer" { algorithm hmac-sha256; secret "${secret}"; };
zone "${zone}" {
    type primary;
    file "${folder}/zone";
    allow-transfer { key "transfer"; };
    notify explicit;
    also-notify { ${HOST} port ${notifyPort} key "transfer"; };
};
`,
  }),
}

export function startPrimary(program: string, settings: PrimarySettings): Server {
  return startServer(program, { ...settings, ...primaries[program]!(settings) })
}

export function startSecondary(program: string, settings: SecondarySettings): Secondary {
  return startServer(program, { ...settings, ...secondaries[program]!(settings) })
}

/** Any server: its configuration is the file `conf` in the folder. */
export function startServer(
  program: string,
  settings: { folder: string; config: string; argv: readonly string[]; port: number },
): Server {
  const { folder, config, argv, port } = settings
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'conf'), config, { mode: 0o600 })
  const child = spawn(program, argv, { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (text += data.toString()))
  child.on('error', error => (text += error.message))
  return { port, log: () => text, reload: () => void child.kill('SIGHUP'), stop: () => end(child) }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>(resolve => child.on('exit', () => resolve()))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000)
  await ended
  clearTimeout(timer)
}

export interface ClientAnswer {
  /** of the answer, such as NXDOMAIN */
  status: string
  output: string
}

/** Runs dig, drill or kdig. */
export function runClient(program: string, args: readonly string[]): Promise<ClientAnswer> {
  return new Promise(resolve => {
    const child = spawn(program, [...args], { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()))
    child.on('close', () => {
      const status = /(?:status|rcode): (\w+)/.exec(output)?.[1] ?? 'none'
      resolve({ status, output })
    })
  })
}
