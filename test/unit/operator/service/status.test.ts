import { describe, expect, it } from 'vitest'
import { summary, withFindings } from '../../../../operator/conditions.ts'
import { type StatusInput, statusOf } from '../../../../operator/service/status.ts'
import type { IprefServiceStatus, ServiceMapping } from '../../../../resources/kinds.ts'
import { gateway, iprefService } from '../../../support/operatorObjects.ts'

const NOW = Date.UTC(2030, 0, 1)
const mapping: ServiceMapping = { slot: 0, family: 'IPv4', address: '10.96.0.1', reference: '2466' }
const say = (type: string, status: 'True' | 'False' | 'Unknown', reason = status === 'True' ? type : 'Broken') => ({
  type,
  status,
  reason,
  message: '',
})

function status(
  input: Partial<StatusInput>,
  before?: Partial<IprefServiceStatus>,
  version = '100',
): IprefServiceStatus {
  const object = iprefService({}, { resourceVersion: version, generation: 3 })
  return statusOf({
    object: before ? { ...object, status: { observedGeneration: 3, ...before } } : object,
    names: { internal: 'web.shop.in.example.com', public: 'web.shop.example.com' },
    mappings: [mapping],
    findings: [say('Accepted', 'True'), say('Resolved', 'True')],
    gateways: [gateway('n1', {}, { observedResourceVersion: '99' })],
    publishedInternal: say('PublishedInternal', 'True'),
    publishedPublic: say('PublishedPublic', 'True'),
    isGone: () => true,
    now: NOW,
    ...input,
  })
}
const conditionOf = ({ conditions }: IprefServiceStatus, type = 'Mapped') => {
  const found = conditions!.find(one => one.type === type)!
  return `${found.status} ${found.reason}`
}

describe('mappingsVersion', () => {
  it('is not said with new mappings, then is that of the object with them, and stays', () => {
    expect(status({}).mappingsVersion).toBeUndefined()
    expect(status({}, { mappings: [mapping] }).mappingsVersion).toBe('100')
    expect(status({}, { mappings: [mapping], mappingsVersion: '90' }, '200').mappingsVersion).toBe('90')
    const other = { ...mapping, ports: [{ port: 80 }] }
    expect(
      status({ mappings: [other] }, { mappings: [mapping], mappingsVersion: '90' }).mappingsVersion,
    ).toBeUndefined()
    expect(status({ mappings: [] }, { mappings: [mapping], mappingsVersion: '90' }).mappingsVersion).toBeUndefined()
  })
})

describe('Mapped', () => {
  const known = { mappings: [mapping], mappingsVersion: '99' }
  const seen = (name: string, observedResourceVersion?: string, more = {}) =>
    gateway(name, {}, { ...(observedResourceVersion === undefined ? {} : { observedResourceVersion }), ...more })
  const refusal = { namespace: 'shop', name: 'web', reason: 'ReferenceInUse', message: 'why' }

  it.each<[string, Partial<StatusInput>, string]>([
    ['every gateway reports it', { gateways: [seen('a', '99'), seen('b', '100')] }, 'True Mapped'],
    ['numbers are compared, not texts', { gateways: [seen('a', '1000')] }, 'True Mapped'],
    ['one is late', { gateways: [seen('a', '99'), seen('b', '98')] }, 'Unknown WaitingForGateways'],
    ['one has never reported', { gateways: [seen('a', '99'), seen('b')] }, 'True Mapped'],
    ['none has ever reported', { gateways: [seen('b')] }, 'Unknown WaitingForGateways'],
    ['there is none', { gateways: [] }, 'False NoGateway'],
    [
      'one refuses it',
      { gateways: [seen('a', '99'), seen('b', '99', { refused: [refusal] })] },
      'False ReferenceInUse',
    ],
    [
      'one refuses another',
      { gateways: [seen('a', '99', { refused: [{ ...refusal, namespace: 'x' }] })] },
      'True Mapped',
    ],
    ['there is nothing to map', { mappings: [] }, 'False NothingToMap'],
  ])('%s', (_name, input, expected) => {
    expect(conditionOf(status(input, known))).toBe(expected)
  })

  it('new mappings are not proved by what gateways saw before', () => {
    expect(conditionOf(status({ gateways: [seen('a', '999')] }))).toBe('Unknown WaitingForGateways')
  })
})

describe('Ready', () => {
  it('is the first that is broken, then the first that is not known', () => {
    expect(summary([say('A', 'True'), say('B', 'Unknown', 'Wait'), say('C', 'False', 'No')])).toMatchObject({
      status: 'False',
      reason: 'No',
    })
    expect(summary([say('A', 'True'), say('B', 'Unknown', 'Wait')])).toMatchObject({
      status: 'Unknown',
      reason: 'Wait',
    })
    expect(summary([say('A', 'True')])).toMatchObject({ status: 'True', reason: 'Ready' })
  })

  it('does not ask for a public record where there is no public zone', () => {
    const input = { publishedPublic: say('PublishedPublic', 'False', 'NoPublicZone') }
    expect(conditionOf(status(input, { mappings: [mapping], mappingsVersion: '99' }), 'Ready')).toBe('True Ready')
  })
})

describe('conditions', () => {
  it('keep the time of the last change of their status, and those of other types', () => {
    const at = { generation: 2, now: NOW + 5000 }
    const before = withFindings(undefined, [say('A', 'True'), say('B', 'True')], { generation: 1, now: NOW })
    const after = withFindings(
      [...before, { ...before[0]!, type: 'Theirs' }],
      [say('A', 'False'), say('B', 'True')],
      at,
    )
    expect(
      after.map(({ type, lastTransitionTime, observedGeneration }) => [type, lastTransitionTime, observedGeneration]),
    ).toEqual([
      ['A', '2030-01-01T00:00:05Z', 2],
      ['B', '2030-01-01T00:00:00Z', 2],
      ['Theirs', '2030-01-01T00:00:00Z', 1],
    ])
  })
})
