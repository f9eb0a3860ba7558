/** Reasons of conditions are an API: every one that the code can say is in the list that docs/operator.md is made from, and the list holds no other. */
import { describe, expect, it } from 'vitest'
import { publishReasons } from '../../operator/publish/findings.ts'
import { fixOf, reasons } from '../../resources/reasons.ts'
import { read, sourceFiles } from './files.ts'

const folders = /^(operator|gateway\/kube)\//
const files = [...sourceFiles().filter(file => folders.test(file)), 'resources/names.ts']

/** Where a reason stands: in a finding, or as an argument of the helpers that make one. */
const places = [
  /\breason: '([A-Z]\w+)'/g,
  /\b(?:refused|unresolved)\(\s*'([A-Z]\w+)'/g,
  /\bsay\(\s*'(?:True|False|Unknown)',\s*'([A-Z]\w+)'/g,
  /\bgood\(\s*'\w+',\s*'([A-Z]\w+)'/g,
  /\?\? '([A-Z]\w+)'/g,
  /, '([A-Z]\w+)', '[A-Z]\w+'\)/g,
  /, '[A-Z]\w+', '([A-Z]\w+)'\)/g,
  /, '[A-Z]\w+', \w+\?\.reason \?\? '([A-Z]\w+)'\)/g,
]
const noReasons = new Set(['Warning', 'Normal', 'TCP'])

const said = new Map<string, string>()
for (const file of files)
  for (const place of places)
    for (const [, reason = ''] of read(file).matchAll(place)) if (!noReasons.has(reason)) said.set(reason, file)
// what a mapper says of an assertion is spelt as conditions are
const mapper = /reason:\n((?: {4}\| '\w+'\n)+)/.exec(read('gateway/mapper/assertions.ts'))?.[1] ?? ''
for (const [, reason = ''] of mapper.matchAll(/'(\w+)'/g))
  said.set(
    reason.replace(/(?:^|_)([a-z])/g, (_all, letter: string) => letter.toUpperCase()),
    'gateway/mapper',
  )

const documented = new Set(reasons.map(({ reason }) => reason))

describe('reasons', () => {
  it('are found in the code at all', () => expect(said.size).toBeGreaterThan(50))

  it.each([...said])('%s, of %s, is explained', reason => expect([...documented]).toContain(reason))

  it('are said by the code, those that are explained', () => {
    const text = files.map(read).join('\n')
    const unsaid = [...documented].filter(reason => !said.has(reason) && !text.includes(`'${reason}'`))
    expect(unsaid).toEqual([])
  })

  it('stand once under each condition', () => {
    const keys = reasons.map(({ kind, condition, reason }) => `${kind} ${condition} ${reason}`)
    expect(keys).toEqual([...new Set(keys)])
  })

  it('mean the same here as where they are said', () => {
    const listed = reasons.filter(({ condition }) => condition.includes('PublishedPublic'))
    expect(Object.fromEntries(listed.map(({ reason, meaning }) => [reason, meaning]))).toMatchObject(
      Object.fromEntries(Object.entries(publishReasons).filter(([reason]) => reason !== 'NoPublicZone')),
    )
  })

  it('that are somebody’s to mend say how', () => {
    const silent = reasons.filter(({ status, fix }) => status === 'False' && fix === undefined)
    expect(silent.map(({ reason }) => reason).sort()).toEqual(
      ['NoPublicZone', 'NothingToMap', 'NothingToPublish', 'Released'].sort(),
    )
  })

  it('fixOf finds the row of the condition', () => {
    expect(fixOf('IprefService', 'PublishedPublic', 'NameTaken')).toContain('hostname')
    expect(fixOf('IprefPeer', 'Accepted', 'NameTooLong')).toContain('host')
    expect(fixOf('IprefService', 'Ready', 'NameConflict')).toContain('hostname')
    expect(fixOf('IprefService', 'Ready', 'Nonsense')).toBeUndefined()
  })
})
