/** The page of documentation that is made from the tables: our kinds, and the settings of the platform. `npm run docs` writes it, a test compares. */
import { configTable } from '../configTable.ts'
import { API_VERSION, kindTable } from '../kinds.ts'
import { allFields, type Field } from './schema.ts'
import { type OwnKind, ownKinds, tables } from './tables.ts'

/** Settings as people write them; a test reads it. */
export const configExample = `encodingNetworks: [10.176.0.0/12]
internalZone: internal.example.com
publicZone: example.com
grants:
  - namespace: shop
    names: [www.example.com, "*.shop.example.com"]
targets:
  allowedRanges:
    - { cidr: 192.0.2.0/24, namespaces: [shop] }
publishers:
  zoneServer:
    nameServers: [ns1.example.com]
    transfer: { allow: [198.51.100.53/32] }
  rfc2136:
    - { zone: internal, server: "10.0.0.53:53", keySecret: { name: dns-key }, owner: cluster-1 }
`

function typeText(field: Field): string {
  switch (field.type) {
    case 'text':
      return field.oneOf ? field.oneOf.map(one => `\`${one}\``).join(', ') : 'text'
    case 'integer':
      if (field.oneOf) return field.oneOf.join(', ')
      if (field.most === undefined || field.most === 2147483647) return 'number'
      return `${field.least ?? 0} to ${field.most}`
    case 'boolean':
      return '`true`, `false`'
    case 'list':
      return `list${field.least ? `, at least ${field.least}` : ''}, at most ${field.most}`
    case 'map':
      return `names and values, at most ${field.most}`
    case 'object':
      return ''
  }
}

function defaultText({ default: standard }: Field): string {
  if (standard === undefined) return ''
  const text = typeof standard === 'string' ? standard : JSON.stringify(standard)
  return text === '{}' ? '' : `\`${text}\``
}

// what stands in angle brackets would be taken for HTML, and stars for emphasis
const cell = (text: string) => text.replace(/[|<*]/g, '\\$&')

function fieldTable(root: Field, path: string): string[] {
  const rows = allFields(root, path)
    .filter(({ path: place }) => place !== path && !/(\[\]|\.\*)$/.test(place))
    .map(({ path: place, field }) => {
      const values = [field.required ? 'required' : '', typeText(field)].filter(Boolean).join('; ')
      return `| \`${place}\` | ${values} | ${defaultText(field)} | ${cell(field.about)} |`
    })
  return ['| field | values | default | meaning |', '| --- | --- | --- | --- |', ...rows]
}

interface Refusal {
  problem: string
  right: string
}

/** The same rule in several places is one line. */
function refusalTable(found: readonly (Refusal & { place: string })[]): string[] {
  const places = new Map<string, string[]>()
  for (const { place, problem, right } of found) {
    const said = `${cell(problem)} | ${cell(right)}`
    places.set(said, [...(places.get(said) ?? []), `\`${place}\``])
  }
  const rows = [...places].map(([said, at]) => `| ${at.join(', ')} | ${said} |`)
  return ['| field | refused | right is |', '| --- | --- | --- |', ...rows]
}

function refusalsOf(root: Field, path: string): (Refusal & { place: string })[] {
  return allFields(root, path).flatMap(({ path: place, field }) =>
    (field.rules ?? []).map(({ at, problem, right }) => ({
      place: [place, at].filter(Boolean).join('.'),
      problem,
      right,
    })),
  )
}

function kindSection(kind: OwnKind): string[] {
  const { about, shortNames, spec, status, name, rules = [] } = tables[kind]
  const { plural, scope } = kindTable[kind]
  const place = scope === 'Namespaced' ? 'in a namespace' : 'of the whole cluster'
  const refusals = [
    { place: 'metadata.name', problem: 'not the form of such a name', right: name.right ?? '' },
    ...rules.map(({ at = '', problem, right }) => ({ place: at, problem, right })),
    ...refusalsOf(spec, 'spec'),
  ]
  return [
    '',
    `## ${kind}`,
    '',
    about,
    '',
    `\`apiVersion: ${API_VERSION}\`, ${place}; \`kubectl get ${plural}\`, short \`${shortNames.join('`, `')}\`. \`metadata.name\`: ${cell(name.about)}`,
    '',
    ...fieldTable(spec, 'spec'),
    '',
    ...refusalTable(refusals),
    ...(status ? ['', 'The status, for reading only:', '', ...fieldTable(status, 'status')] : []),
  ]
}

/** What is checked beyond the table (../config.ts). */
const crossRefusals: readonly (Refusal & { place: string })[] = [
  { place: 'publicZone', problem: 'the internal zone too', right: 'a zone of its own' },
  { place: 'grants[].namespace', problem: 'the namespace peers', right: 'any other: it gets no names' },
  {
    place: 'grants[].names[]',
    problem: 'a name outside the zones, or among those of hosts of peers',
    right: 'a name in one of the zones',
  },
  { place: 'sliceLengths', problem: 'not longer than the encoding network', right: 'some bits longer' },
  {
    place: 'publishers',
    problem: 'the public zone, where there is none',
    right: 'publicZone, or the internal zone alone',
  },
]

export function renderResourcesPage(): string {
  const lines = [
    '# Resources and settings',
    '',
    'Generated by `npm run docs` from the tables in `resources/`. The same tables make the CustomResourceDefinitions in [crds](../crds), with the texts of',
    '`kubectl explain`, and check the YAML of `--manifests`. Examples are in [crds/examples](../crds/examples).',
    ...ownKinds.flatMap(kindSection),
    '',
    '## Settings of the platform',
    '',
    'ConfigMap `ipref-config`, key `config.yaml`, in the namespace of the operator; `ipref-config.yaml` in a folder of manifests. All mistakes are reported',
    'at once, with line and column, and the last good settings stay in force.',
    '',
    '```yaml ipref-config.yaml',
    configExample.trimEnd(),
    '```',
    '',
    ...fieldTable(configTable, ''),
    '',
    ...refusalTable([...refusalsOf(configTable, ''), ...crossRefusals]),
  ]
  return `${lines.join('\n')}\n`
}
