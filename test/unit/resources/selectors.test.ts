/** Selectors, as the API server reads them. */
import { describe, expect, it } from 'vitest'
import type { Pod } from '../../../resources/kinds.ts'
import { matchesLabels, parseLabelSelector, selects } from '../../../resources/selectors.ts'

const labels = { app: 'web', tier: 'front', empty: '' }

describe('label selectors', () => {
  it.each([
    ['', true],
    ['app=web', true],
    ['app==web', true],
    ['app = web , tier=front', true],
    ['app=mail', false],
    ['app!=mail', true],
    ['other!=mail', true],
    ['app!=web', false],
    ['app', true],
    ['!app', false],
    ['! other', true],
    ['other', false],
    ['app in (mail, web)', true],
    ['app in (mail)', false],
    ['other in (mail)', false],
    ['app notin (mail,web),tier=front', false],
    ['other notin (mail)', true],
    ['empty=', true],
    ['empty', true],
    ['constructor', false],
  ])('%s', (text, expected) => {
    expect(parseLabelSelector(text)(labels)).toBe(expected)
  })

  it('that are none are a mistake of a program', () => {
    expect(() => parseLabelSelector('a>b>c')).not.toThrow()
    expect(() => parseLabelSelector('a in b')).toThrow(/no label selector/)
  })

  it.each([
    [{}, true],
    [{ matchLabels: { app: 'web' } }, true],
    [{ matchLabels: { app: 'web', tier: 'back' } }, false],
    [{ matchExpressions: [{ key: 'app', operator: 'In', values: ['a', 'web'] }] }, true],
    [{ matchExpressions: [{ key: 'other', operator: 'In', values: ['a'] }] }, false],
    [{ matchExpressions: [{ key: 'other', operator: 'NotIn', values: ['a'] }] }, true],
    [{ matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['web'] }] }, false],
    [{ matchExpressions: [{ key: 'app', operator: 'Exists' }] }, true],
    [{ matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] }, false],
    [{ matchLabels: { app: 'web' }, matchExpressions: [{ key: 'toString', operator: 'DoesNotExist' }] }, true],
  ] as const)('as objects: %j', (selector, expected) => {
    expect(matchesLabels(structuredClone(selector) as never, labels)).toBe(expected)
  })
})

describe('field selectors', () => {
  const pod: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a', namespace: 'n' }, spec: { nodeName: 'one' } }
  it.each([
    ['metadata.name=a', true],
    ['metadata.name=a,metadata.namespace!=n', false],
    ['spec.nodeName=one', true],
    ['spec.nodeName==two', false],
    ['status.phase=', true],
    ['status.phase!=Running', true],
  ])('%s', (fieldSelector, expected) => {
    expect(selects({ fieldSelector })(pod)).toBe(expected)
    expect(selects({ fieldSelector, namespace: 'other' })(pod)).toBe(false)
  })
})
