import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { stubDomains, withBlock, withoutBlock } from '../../../../operator/publish/corefileBlock.ts'

const COREFILE = `.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
    }
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
}
`
const wanted = { domains: ['example.com', 'other.example.net'], resolver: '10.96.0.53' }
const LINES = 'example.com other.example.net {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n'

describe('our block in a Corefile', () => {
  it('is added at the end, between markers, and the rest is as it was', () => {
    const { text, problems } = withBlock(COREFILE, wanted)
    expect(problems).toEqual([])
    expect(text!.startsWith(COREFILE)).toBe(true)
    expect(text!.slice(COREFILE.length)).toMatch(/^# BEGIN ipref sha256:[0-9a-f]{64} [^\n]*\n[\s\S]*\n# END ipref\n$/)
    expect(text).toContain(LINES)
  })

  it('is not written again when it is right', () => {
    expect(withBlock(withBlock(COREFILE, wanted).text!, wanted)).toEqual({ text: undefined, problems: [] })
  })

  it('is brought up to date where it stands', () => {
    const between = `${withBlock(COREFILE, wanted).text}example.org {\n    whoami\n}\n`
    const { text } = withBlock(between, { ...wanted, domains: ['example.com'] })
    expect(text).toBe(
      `${withBlock(COREFILE, { ...wanted, domains: ['example.com'] }).text}example.org {\n    whoami\n}\n`,
    )
  })

  it.each([
    [
      'a changed line',
      (text: string) => text.replace('cache 30\n    forward . 10.96', 'cache 5\n    forward . 10.96'),
      /somebody changed/,
    ],
    ['a marker without the other', (text: string) => text.replace('# END ipref\n', ''), /without the other/],
    ['a marker without its hash', (text: string) => text.replace(/ sha256:[0-9a-f]+/, ''), /somebody changed/],
    ['two blocks', (text: string) => text + text.slice(COREFILE.length), /several/],
  ])('is left alone with %s', (_, edit, why) => {
    const edited = edit(withBlock(COREFILE, wanted).text!)
    for (const outcome of [withBlock(edited, { ...wanted, domains: [] }), withoutBlock(edited)]) {
      expect(outcome.text).toBeUndefined()
      expect(outcome.problems[0]).toMatch(why)
    }
  })

  it.each([
    ['serves cluster.local', 'local', /take cluster.local away/],
    ['is what the kubernetes plugin serves', 'arpa', /away from the cluster/],
    ['is no domain', 'a {\n erratic\n}\n', /no domain/],
    ['is the root', '.', /no domain/],
    ['another block serves', 'served.example', /another block/],
  ])('leaves a domain out that %s', (_, domain, why) => {
    const others = `${COREFILE}dns://served.example.:5353,\nmore.example {\n  whoami\n}\n`
    const { text, problems } = withBlock(others, { ...wanted, domains: [domain, 'example.com'] })
    expect(problems[0]).toMatch(why)
    expect(text).toContain('\nexample.com {\n')
  })

  it('gives a cluster domain of its own its place', () => {
    const own = COREFILE.replace('cluster.local', 'k8s.corp.example')
    expect(withBlock(own, { ...wanted, domains: ['corp.example'] }).problems[0]).toMatch(/k8s.corp.example/)
  })

  it('is gone without a trace, byte for byte, from any text', () => {
    const anyText = fc.string().filter(text => !text.includes('# BEGIN ipref') && !text.includes('# END ipref'))
    fc.assert(
      fc.property(anyText, fc.subarray(wanted.domains, { minLength: 1 }), (text, domains) => {
        const added = withBlock(text, { ...wanted, domains }).text
        if (added === undefined) return
        expect(withBlock(added, { ...wanted, domains }).text).toBeUndefined()
        expect(withoutBlock(added).text).toBe(text)
        expect(withBlock(added, { ...wanted, domains: [] }).text).toBe(text)
      }),
    )
  })

  it('is what a person is told to add', () => {
    expect(stubDomains(wanted)).toBe(LINES)
    expect(stubDomains({ ...wanted, domains: [] })).toBe('')
  })
})
