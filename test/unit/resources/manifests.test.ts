/** Texts of people as objects: whatever they write, it is taken or named, and nothing is thrown. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseManifests } from '../../../resources/manifests.ts'
import { readYaml, writeYaml } from '../../../runtime/yaml.ts'

const good = `apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  target: {service: {name: web}}
`

describe('manifests', () => {
  it('say their place', () => {
    const { declared, problems } = parseManifests('a.yaml', good)
    expect(problems).toEqual([])
    const at = (...path: (string | number)[]) => declared[0]!.say({ path, problem: 'p', right: 'r' })
    expect(at('spec', 'target', 'service', 'name')).toBe('a.yaml:5:22 spec.target.service.name: p; r')
    expect(at('spec', 'ports', 0, 'port')).toBe('a.yaml:4:1 spec.ports[0].port: p; r')
    expect(at()).toBe('a.yaml:1:1 p; r')
  })

  it('may be cut, garbled and mixed: each text is taken or named', () => {
    const garbled = fc
      .tuple(fc.nat(good.length), fc.nat(12), fc.string({ unit: 'binary', maxLength: 8 }))
      .map(([at, length, text]) => good.slice(0, at) + text + good.slice(at + length))
    fc.assert(
      fc.property(fc.oneof(garbled, fc.string({ unit: 'binary' })), text => {
        const { declared, problems } = parseManifests('a.yaml', text)
        for (const problem of problems) expect(problem).toMatch(/^a\.yaml:\d+:\d+ \S/)
        for (const { key } of declared) expect(key.name).toMatch(/^[a-z0-9][-a-z0-9.]*$/)
      }),
      { numRuns: 500 },
    )
  })

  it('may hold any values where texts are expected', () => {
    const value = fc.jsonValue({ maxDepth: 2 })
    const metadata = fc.record({ name: value, namespace: value, labels: value, annotations: value, finalizers: value })
    fc.assert(
      fc.property(value, fc.oneof(metadata, value), value, (kind, metadata, spec) => {
        const object = { apiVersion: 'ipref.io/v1alpha1', kind: 'IprefService', metadata, spec }
        for (const one of [object, { ...object, kind }, { kind: 'List', items: [object, kind] }]) {
          const { declared, problems } = parseManifests('a.yaml', writeYaml(one))
          expect(declared.length + problems.length).toBeGreaterThan(0)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('with aliases that grow without end are refused', () => {
    const levels = Array.from({ length: 20 }, (_, i) => `a${i}: &a${i} [${Array(9).fill(`*a${i - 1}`)}]`)
    const text = ['a0: &a0 [x, x]', ...levels.slice(1)].join('\n')
    expect(parseManifests('a.yaml', text).problems).toEqual([expect.stringMatching(/^a\.yaml:\d+:\d+ .*alias/i)])
  })
})

describe('YAML of ours', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noNullPrototype: true } as never), value => {
        const [document] = readYaml(writeYaml(value))
        expect(document?.problems).toEqual([])
        // a zero with a sign is a zero
        expect(JSON.stringify(document?.value)).toBe(JSON.stringify(value))
      }),
      { numRuns: 500 },
    )
  })
})
