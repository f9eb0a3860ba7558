/** `ipref trace`: whom it asks, how the parts come together, how it is shown, and its exit code. */
import { describe, expect, it } from 'vitest'
import { type Ask, exitCodeOf, renderTrace, trace } from '../../../cli/trace.ts'
import type { TraceReport } from '../../../gateway/controlReports.ts'
import { type Step, Steps, verdictOf } from '../../../runtime/steps.ts'

const sockets = { gateway: 'gateway', resolver: 'resolver' }
const right = (what: string): Step => ({ what, ok: true, detail: `${what} is right` })
const wrong = (what: string): Step => ({ what, ok: false, detail: `${what} is wrong`, fix: `mend ${what}` })
const report = (fields: Partial<TraceReport>): TraceReport => ({ steps: [], addresses: [], verdict: '', ...fields })

/** Answers by socket and subject; what is not there is not to be had. */
function answering(answers: Record<string, TraceReport>): { ask: Ask; asked: string[] } {
  const asked: string[] = []
  const ask: Ask = async (path, request) => {
    const key = `${path} ${request.name ?? request.address}`
    asked.push(key)
    const answer = answers[key]
    if (!answer) throw new Error(`nobody answers at ${path}`)
    return answer
  }
  return { ask, asked }
}

const named = report({
  name: 'web',
  steps: [right('TXT')],
  addresses: ['10.240.16.2', '10.240.16.3'],
  verdict: 'named',
})
const lacking = report({ name: 'web', steps: [wrong('resolver')], verdict: 'none here', lacksResolver: true })

describe('whom it asks', () => {
  it('an address: the gateway alone', async () => {
    const { ask, asked } = answering({ 'gateway 10.240.16.2': named })
    expect(await trace('10.240.16.2', sockets, ask)).toBe(named)
    expect(asked).toEqual(['gateway 10.240.16.2'])
  })

  it('a name: the gateway alone, when that runs a resolver', async () => {
    const { ask, asked } = answering({ 'gateway web': named, 'resolver web': lacking })
    expect(await trace('web', sockets, ask)).toBe(named)
    expect(asked).toEqual(['gateway web'])
  })

  it('a name: the resolver beside a gateway, and the gateway about each address', async () => {
    const { ask } = answering({
      'gateway web': lacking,
      'resolver web': named,
      'gateway 10.240.16.2': report({ steps: [right('mapping')], verdict: 'it goes' }),
      'gateway 10.240.16.3': report({ steps: [right('mapping'), wrong('answer')], verdict: 'silent' }),
    })
    const got = await trace('web', sockets, ask)
    expect(got.steps.map(step => step.what)).toEqual(['TXT', 'mapping', 'mapping', 'answer'])
    expect(got.verdict).toBe('it goes\nbut answer: answer is wrong\n→ mend answer')
    expect(exitCodeOf(got)).toBe(1)
  })

  it('a name: the resolver alone, where there is no gateway', async () => {
    const { ask } = answering({ 'resolver web': named })
    const got = await trace('web', sockets, ask)
    expect(got.steps.at(-1)).toEqual({ what: 'gateway', ok: true, detail: expect.stringContaining('nobody answers') })
    expect([got.verdict, exitCodeOf(got)]).toEqual(['named', 0])
  })

  it('a name: says what is wrong where there is no resolver, and fails where there is nothing', async () => {
    expect(await trace('web', sockets, answering({ 'gateway web': lacking }).ask)).toBe(lacking)
    await expect(trace('web', sockets, answering({}).ask)).rejects.toThrow('nobody answers at gateway')
  })
})

describe('what it shows', () => {
  it('a line a step, with times, and the verdict behind', () => {
    const steps = [right('domain'), { ...right('TXT'), ms: 1.25 }, wrong('context')]
    expect(renderTrace(report({ steps, verdict: verdictOf(steps, '') })).split('\n')).toEqual([
      'ok    domain          domain is right',
      'ok    TXT      1.3ms  TXT is right',
      'FAIL  context         context is wrong',
      'context: context is wrong',
      '→ mend context',
    ])
  })

  it.each([
    { what: 'all right', steps: [right('a')], code: 0 },
    { what: 'one wrong', steps: [right('a'), wrong('b')], code: 1 },
    { what: 'nothing to trace', steps: [], code: 1 },
  ])('exit code: $what', ({ steps, code }) => expect(exitCodeOf(report({ steps }))).toBe(code))
})

describe('steps', () => {
  it('have times where somebody was waited for, and the first wrong one is the verdict', () => {
    let now = 100
    const steps = new Steps(() => now)
    steps.right('a', 'fine')
    now = 112.34
    steps.right('b', 'fine', 100)
    steps.wrong('c', 'broken', { fix: 'mend it', since: 110 })
    steps.wrong('d', 'broken too', { fix: 'and this' })
    expect(steps.all.map(step => step.ms)).toEqual([undefined, 12.3, 2.3, undefined])
    expect(verdictOf(steps.all, '')).toBe('c: broken\n→ mend it')
    expect(verdictOf(steps.all.slice(0, 2), 'it goes')).toBe('it goes')
  })
})
