/**
 * The public DNS of the demo: an ordinary name server that knows nothing of IPREF, secondary of each network's public zone. Knot DNS, NSD or BIND, whichever is
 * installed and starts; where none is, a small secondary of our own (secondary.ts), which is said.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { eventually, type Lab, type Namespace, type Running } from '../support/netns.ts'
import { outsideOf, PUBLIC_DNS, type SitePlan } from './networks.ts'

const SECONDARY = join(import.meta.dirname, 'secondary.ts')

interface Zone {
  name: string
  /** where it is transferred from */
  primaries: readonly string[]
}

interface Program {
  program: string
  title: string
  argv(config: string): string[]
  config(folder: string, zones: readonly Zone[]): string
}

const both = [PUBLIC_DNS[4], PUBLIC_DNS[6]] as const

const programs: readonly Program[] = [
  {
    program: 'knotd',
    title: 'Knot DNS',
    argv: config => ['-c', config],
    config: (folder, zones) => `server:
    rundir: ${folder}
    listen: [${both.map(address => `${address}@53`).join(', ')}]
database:
    storage: ${folder}
log:
  - target: stderr
    any: info
remote:
${zones.map(({ name, primaries }) => `  - id: ${name}\n    address: [${primaries.map(address => `${address}@53`).join(', ')}]`).join('\n')}
acl:
${zones.map(({ name, primaries }) => `  - id: ${name}\n    address: [${primaries.join(', ')}]\n    action: notify`).join('\n')}
zone:
${zones.map(({ name }) => `  - domain: ${name}\n    storage: ${folder}\n    master: ${name}\n    acl: ${name}`).join('\n')}
`,
  },
  {
    program: 'nsd',
    title: 'NSD',
    argv: config => ['-d', '-c', config],
    config: (folder, zones) => `server:
${both.map(address => `    ip-address: ${address}@53`).join('\n')}
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
remote-control:
    control-enable: no
${zones
  .map(
    ({ name, primaries }) => `zone:
    name: ${name}
    zonefile: "${folder}/${name}"
${primaries.map(address => `    allow-notify: ${address} NOKEY\n    request-xfr: AXFR ${address}@53 NOKEY`).join('\n')}`,
  )
  .join('\n')}
`,
  },
  {
    program: 'named',
    title: 'BIND',
    argv: config => ['-g', '-n', '1', '-c', config],
    config: (folder, zones) => `options {
    directory "${folder}";
    pid-file "${folder}/pid";
    session-keyfile "${folder}/session.key";
    managed-keys-directory "${folder}";
    listen-on { ${both[0]}; };
    listen-on-v6 { ${both[1]}; };
    recursion no;
    notify no;
    dnssec-validation no;
};
controls { };
${zones
  .map(
    ({ name, primaries }) => `zone "${name}" {
    type secondary;
    file "${folder}/${name}";
    primaries { ${primaries.map(address => `${address};`).join(' ')} };
};`,
  )
  .join('\n')}
`,
  },
]

/** Resolves to what it is, once it listens. */
export async function startPublicDns(lab: Lab, internet: Namespace, sites: readonly SitePlan[]): Promise<string> {
  const host = await lab.add('public-dns')
  await lab.connect(
    { in: host, device: 'eth0', addresses: [`${PUBLIC_DNS[4]}/24`, `${PUBLIC_DNS[6]}/64`] },
    { in: internet, device: 'to-dns', addresses: ['203.0.113.1/24', '2001:db8:53::1/64'] },
  )
  await host.ip('route add default via 203.0.113.1', 'route add default via 2001:db8:53::1')
  const zones = sites.map(site => ({ name: site.publicZone, primaries: outsideOf(site) }))
  for (const { program, title, argv, config } of programs) {
    if (!isInstalled(program)) continue
    const folder = lab.file(program)
    mkdirSync(folder)
    writeFileSync(join(folder, 'conf'), config(folder, zones))
    const running = host.start([program, ...argv(join(folder, 'conf'))], { log: 'public-dns.log' })
    if (await listens(host, running)) return `${title}, a secondary of the three networks`
  }
  const wanted = zones.map(({ name, primaries }) => `${name}=${primaries.join(',')}`)
  const running = host.start([process.execPath, SECONDARY, both.join(','), ...wanted], { log: 'public-dns.log' })
  if (!(await listens(host, running))) throw new Error(`the public DNS does not start:\n${running.log()}`)
  return 'a small secondary of our own (Knot DNS, NSD and BIND are not installed)'
}

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(folder => existsSync(join(folder, program)))
}

// port 53 of the IPv4 address, as /proc/net/udp writes it
async function listens(host: Namespace, running: Running): Promise<boolean> {
  const local = `${Buffer.from(PUBLIC_DNS[4].split('.').reverse().map(Number)).toString('hex').toUpperCase()}:0035`
  return eventually('the public DNS listens', async () => {
    if (running.hasExited()) return 'no' as const
    return (await host.require(['cat', '/proc/net/udp'])).includes(local) && ('yes' as const)
  }).then(
    answer => answer === 'yes',
    () => running.stop().then(() => false),
  )
}
