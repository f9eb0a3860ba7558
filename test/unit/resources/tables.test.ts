/** Objects of our kinds against their tables: rows by rule, defaults, and what the tables must hold so that an API server takes the CRDs. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pathText } from '../../../resources/schema/check.ts'
import { allFields } from '../../../resources/schema/schema.ts'
import { ownKinds, placedRules, tables, validate, withDefaults } from '../../../resources/schema/tables.ts'
import { arbitraryObject } from '../../support/resourceArbitrary.ts'
import { iprefGateway, iprefPeer, iprefService } from '../../support/resourceBuilders.ts'
import { resourceCases } from '../../support/resourceCases.ts'

describe.each(ownKinds)('%s', kind => {
  const cases = resourceCases.filter(one => one.kind === kind)

  it.each(cases.filter(one => one.refused === undefined))('accepts $name ($rule)', ({ object, old }) => {
    expect(validate(kind, object, old)).toEqual([])
  })

  it.each(cases.filter(one => one.refused !== undefined))('refuses $name ($rule)', one => {
    if (one.old) expect(validate(kind, one.old)).toEqual([])
    const problems = validate(kind, one.object, one.old)
    const { rule } = placedRules(kind).find(({ place }) => place === one.rule) ?? {}
    const expected = rule ? { problem: rule.problem, right: rule.right } : {}
    expect(problems.map(({ path, ...said }) => ({ path: pathText(path), ...said }))).toContainEqual(
      expect.objectContaining({ path: one.refused, ...expected }),
    )
  })

  it.each(placedRules(kind))('$place has rows of either sort', ({ place }) => {
    const rows = cases.filter(one => one.rule === place)
    expect(rows.some(one => one.refused === undefined)).toBe(true)
    expect(rows.some(one => one.refused !== undefined)).toBe(true)
  })

  it('has rows for rules that exist only', () => {
    const places = new Set(placedRules(kind).map(({ place }) => place))
    expect(cases.filter(one => one.rule !== undefined && !places.has(one.rule))).toEqual([])
  })

  it('has a CEL text for every rule, and an explanation of every field', () => {
    const { spec, status } = tables[kind]
    const fields = [...allFields(spec, 'spec'), ...(status ? allFields(status, 'status') : [])]
    expect(placedRules(kind).filter(({ rule }) => rule.cel === undefined)).toEqual([])
    expect(fields.filter(({ field }) => !/^[A-Z].*(\.| Examples?: \S.*)$/s.test(field.about))).toEqual([])
  })

  it('bounds every text that a rule reads', () => {
    const texts = allFields(tables[kind].spec, 'spec').filter(({ field }) => field.type === 'text')
    const unbounded = texts.filter(({ field }) => field.type === 'text' && !field.oneOf && field.most === undefined)
    expect(unbounded).toEqual([])
  })
})

describe('defaults', () => {
  it('of an IprefService', () => {
    const object = iprefService({ target: { service: { name: 'web' } }, ports: [{ port: 80 }], hostname: null })
    expect(withDefaults('IprefService', object)).toEqual({
      ...object,
      spec: { target: { service: { name: 'web' } }, ports: [{ port: 80, protocol: 'TCP' }], ttlSeconds: 60 },
      status: { observedGeneration: -1 },
    })
  })

  it('of an IprefPeer', () => {
    const object = iprefPeer({ gateway: { name: 'gw.example.org' }, probe: { mode: 'Disabled' } })
    expect(withDefaults('IprefPeer', object)).toMatchObject({
      spec: { gateway: { port: 1045 }, probe: { mode: 'Disabled', intervalSeconds: 25 } },
    })
    const short = iprefPeer({ gateway: { name: 'gw.example.org' } })
    expect(withDefaults('IprefPeer', short)).toMatchObject({
      spec: { probe: { mode: 'Enabled', intervalSeconds: 25 } },
    })
  })

  it('of an IprefGateway', () => {
    expect(withDefaults('IprefGateway', iprefGateway({}))).toMatchObject({ spec: { publish: true } })
  })

  it('change nothing in place, and leave what is there', () => {
    const object = iprefPeer({ gateway: { address: '203.0.113.2', port: 7 }, status: null })
    const before = structuredClone(object)
    expect(withDefaults('IprefPeer', object)).toMatchObject({ spec: { gateway: { port: 7 } } })
    expect(object).toEqual(before)
  })
})

describe('whole objects', () => {
  const good = iprefService({ target: { address: '192.0.2.7' } })
  it.each([
    ['nothing', undefined, ''],
    ['a list', [], ''],
    ['another version', { ...good, apiVersion: 'ipref.io/v1' }, 'apiVersion'],
    ['another kind', { ...good, kind: 'IprefPeer' }, 'kind'],
    ['no metadata', { ...good, metadata: undefined }, 'metadata'],
    ['no name', { ...good, metadata: {} }, 'metadata.name'],
    ['a label that is a number', { ...good, metadata: { name: 'a', labels: { a: 1 } } }, 'metadata.labels.a'],
    ['a field beside spec', { ...good, sepc: {} }, 'sepc'],
    ['a spec that is a text', { ...good, spec: 'web' }, 'spec'],
    ['a condition without a reason', { ...good, status: { conditions: [{}] } }, 'status.conditions[0].reason'],
  ])('refuses %s', (_name, object, path) => {
    expect(validate('IprefService', object).map(one => pathText(one.path))).toContain(path)
  })

  it('says what would be right', () => {
    const [problem] = validate('IprefService', iprefService({ target: { address: '192.0.2.7' }, ttlSecond: 5 }))
    expect(problem).toEqual({
      path: ['spec', 'ttlSecond'],
      problem: 'unknown field',
      right: 'did you mean ttlSeconds?',
    })
  })

  it('checks of other kinds what their names may be', () => {
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web-0', namespace: 'default' }, spec: { x: 1 } }
    expect(validate('Pod', pod)).toEqual([])
    expect(validate('Pod', { ...pod, metadata: { name: 'Web' } })).toHaveLength(1)
    expect(validate('Node', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n', namespace: 'x' } })).toHaveLength(
      1,
    )
  })
})

describe('generated objects', () => {
  it.each(ownKinds)('%s: some are right, some are wrong, and none makes the check throw', kind => {
    const name = kind === 'IprefReference' ? '9a2' : 'web'
    const objects = fc.sample(arbitraryObject(kind, name), 1000)
    const verdicts = objects.map(object => validate(kind, object).length === 0)
    expect(verdicts.filter(isRight => isRight).length).toBeGreaterThan(50)
    expect(verdicts.filter(isRight => !isRight).length).toBeGreaterThan(50)
  })

  it.each(ownKinds)('%s: what is right stays right with its defaults, and as its own successor', kind => {
    const name = kind === 'IprefReference' ? '9a2' : 'web'
    fc.assert(
      fc.property(arbitraryObject(kind, name), object => {
        const whole = withDefaults(kind, object)
        expect(validate(kind, whole)).toEqual(validate(kind, object))
        expect(withDefaults(kind, whole)).toEqual(whole)
        expect(validate(kind, object, object)).toEqual(validate(kind, object))
      }),
    )
  })

  it.each(ownKinds)('%s: nothing makes the check throw', kind => {
    fc.assert(
      fc.property(fc.anything(), fc.anything(), fc.anything(), (spec, status, metadata) => {
        expect(Array.isArray(validate(kind, { kind, spec, status, metadata }, { spec: status }))).toBe(true)
      }),
    )
  })
})
