/** BIND and Knot DNS as primaries of zones that take dynamic updates, signed with a key. Questions are answered to anybody. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HOST, type Secondary, startServer } from './programs.ts'

interface UpdateKey {
  name: string
  secret: string
  may: 'update' | 'update and transfer'
}

export interface UpdatePrimarySettings {
  folder: string
  /** by zone: the text to begin with */
  zones: Readonly<Record<string, string>>
  port: number
  keys: readonly UpdateKey[]
}

export const UPDATE_PRIMARIES = ['named', 'knotd'] as const

const configs: Readonly<
  Record<(typeof UPDATE_PRIMARIES)[number], (settings: UpdatePrimarySettings) => { config: string; argv: string[] }>
> = {
  named: ({ folder, zones, port, keys }) => ({
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
};
controls { };
${keys.map(({ name, secret }) => `key "${name}" { algorithm hmac-sha256; secret "${secret}"; };`).join('\n')}
${Object.keys(zones)
  .map(
    zone => `zone "${zone}" {
    type primary;
    file "${folder}/${zone}.zone";
    allow-update { ${list(keys)} };
    allow-transfer { ${list(keys.filter(({ may }) => may !== 'update')) || 'none;'} };
};`,
  )
  .join('\n')}
`,
  }),
  knotd: ({ folder, zones, port, keys }) => ({
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
${keys.map(({ name, secret }) => `  - id: ${name}\n    algorithm: hmac-sha256\n    secret: ${secret}\n`).join('')}acl:
${keys.map(({ name, may }) => `  - id: ${name}\n    key: ${name}\n    action: [update${may === 'update' ? '' : ', transfer'}]\n`).join('')}zone:
${Object.keys(zones)
  .map(
    zone => `  - domain: ${zone}
    storage: ${folder}
    file: ${folder}/${zone}.zone
    acl: [${keys.map(({ name }) => name).join(', ')}]`,
  )
  .join('\n')}
`,
  }),
}

function list(keys: readonly UpdateKey[]): string {
  return keys.map(({ name }) => `key "${name}";`).join(' ')
}

export function startUpdatePrimary(
  program: (typeof UPDATE_PRIMARIES)[number],
  settings: UpdatePrimarySettings,
): Secondary {
  const { folder, zones } = settings
  mkdirSync(folder, { recursive: true })
  for (const [zone, text] of Object.entries(zones)) writeFileSync(join(folder, `${zone}.zone`), text)
  return startServer(program, { ...settings, ...configs[program](settings) })
}
