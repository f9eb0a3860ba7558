import { describe, expect, it } from 'vitest'
import { ownContextsOf } from '../../../gateway/contexts.ts'
import { formatAddress, parseAddress } from '../../../ipref/address.ts'

const shown = (given: string[], published: string[]) => {
  const { contexts, problems } = ownContextsOf(
    given.map(text => parseAddress(text)!),
    published,
  )
  return { contexts: contexts.map(formatAddress), problems: problems.length }
}

describe('the context addresses of a gateway', () => {
  it.each([
    ['nobody knows any', [], [], []],
    ['the cluster knows them', [], ['198.51.100.1', '2001:db8::1'], ['198.51.100.1', '2001:db8::1']],
    ['a flag says the same', ['198.51.100.1'], ['198.51.100.1'], ['198.51.100.1']],
    ['a flag says one, the cluster the other', ['198.51.100.1'], ['2001:db8::1'], ['198.51.100.1', '2001:db8::1']],
    ['a flag without the cluster', ['198.51.100.1'], [], ['198.51.100.1']],
  ])('%s', (_name, given, published, contexts) => expect(shown(given, published)).toEqual({ contexts, problems: 0 }))

  it('a flag wins, and a difference is named', () =>
    expect(shown(['198.51.100.1'], ['198.51.100.2'])).toEqual({ contexts: ['198.51.100.1'], problems: 1 }))
})
