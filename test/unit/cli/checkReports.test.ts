/** `ipref check`: how findings become lines, a verdict, an exit code and JUnit XML, whatever others have put into names. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Checked,
  escapeXml,
  exitCodeOf,
  renderChecked,
  renderJunit,
  verdictOf,
} from '../../../cli/checkReports.ts'
import type { Step } from '../../../runtime/steps.ts'

const right: Step = { what: 'ping', ok: true, detail: 'answers 3 of 3', ms: 1.25 }
const doubtful: Step = { what: 'port', ok: true, warns: true, detail: 'another port', fix: 'lead the port' }
const wrong: Step = { what: 'path', ok: false, detail: 'large packets are lost', fix: 'mend the link' }
const of = (...steps: Step[]): Checked => ({ subject: 'web.example.com', steps })

describe('exit codes', () => {
  it.each([
    { name: 'all is well', checked: [of(right)], code: 0 },
    { name: 'a warning is no failure', checked: [of(right, doubtful)], code: 0 },
    { name: 'something is wrong', checked: [of(right, wrong)], code: 1 },
    { name: 'something is wrong with one of two', checked: [of(right), of(wrong)], code: 1 },
    { name: 'nothing was checked', checked: [of()], code: 1 },
  ])('$name: $code', ({ checked, code }) => expect(exitCodeOf(checked)).toBe(code))
})

describe('verdicts', () => {
  it.each([
    { name: 'all is well', checked: of(right), lines: ['web.example.com: all is well'] },
    {
      name: 'the first that is wrong comes before a warning',
      checked: of(doubtful, wrong, right),
      lines: ['web.example.com: path: large packets are lost', '→ mend the link'],
    },
    {
      name: 'others are counted',
      checked: of(wrong, { ...wrong, what: 'TCP 80' }),
      lines: ['web.example.com: path: large packets are lost (and 1 more)', '→ mend the link'],
    },
    {
      name: 'a warning alone',
      checked: of(right, doubtful),
      lines: ['web.example.com: it works, but port: another port', '→ lead the port'],
    },
    { name: 'nothing', checked: of(), lines: ['web.example.com: nothing was checked'] },
  ])('$name', ({ checked, lines }) => expect(verdictOf(checked)).toEqual(lines))
})

describe('text', () => {
  it('a line a step with its time, and the verdict', () => {
    expect(renderChecked([of(right, doubtful, wrong)]).split('\n')).toEqual([
      'ok    ping  1.3ms  answers 3 of 3',
      'warn  port         another port',
      'FAIL  path         large packets are lost',
      'web.example.com: path: large packets are lost',
      '→ mend the link',
    ])
  })

  it('several subjects have titles', () => {
    const text = renderChecked([of(right), { subject: '10.240.1.2', steps: [right] }])
    expect(text).toMatch(/^web\.example\.com:\nok .*\n.*all is well\n\n10\.240\.1\.2:\nok /)
  })

  it('what others wrote does not move the cursor', () => {
    const text = renderChecked([of({ ...right, detail: 'a\x1b[2Jb\rc\nd\x9b' })])
    expect(text.split('\n')).toHaveLength(2)
    expect(text).toContain('a?[2Jb?c?d?')
  })
})

describe('JUnit XML', () => {
  it('a suite for each subject, a case for each step', () => {
    expect(renderJunit([of(right, doubtful, wrong)])).toBe(`<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="ipref check" tests="3" failures="1" errors="0" skipped="0" time="0.001">
  <testsuite name="web.example.com" tests="3" failures="1" errors="0" skipped="0" time="0.001">
    <testcase classname="web.example.com" name="ping: answers 3 of 3" time="0.0013"/>
    <testcase classname="web.example.com" name="port: another port" time="0.0000">
      <system-out>warning: another port&#10;→ lead the port</system-out>
    </testcase>
    <testcase classname="web.example.com" name="path: large packets are lost" time="0.0000">
      <failure message="large packets are lost">large packets are lost&#10;→ mend the link</failure>
    </testcase>
  </testsuite>
</testsuites>
`)
  })

  it.each([
    { name: 'marks', text: `<a href="x">&'`, escaped: '&lt;a href=&quot;x&quot;&gt;&amp;&apos;' },
    { name: 'the end of a CDATA section', text: ']]>', escaped: ']]&gt;' },
    { name: 'an entity is text', text: '&lt;', escaped: '&amp;lt;' },
    { name: 'control characters, which XML has not', text: 'a\0b\x1b\x7fc\x85', escaped: 'a?b??c?' },
    { name: 'white space that an attribute would lose', text: 'a\tb\r\nc', escaped: 'a&#9;b&#13;&#10;c' },
    { name: 'half a surrogate pair, and what is no character', text: 'a\ud800b\ufffe\uffff', escaped: 'a\ufffdb??' },
    { name: 'other scripts', text: 'пример.例え', escaped: 'пример.例え' },
  ])('escapes $name', ({ text, escaped }) => expect(escapeXml(text)).toBe(escaped))

  // what is left between the tags that we write ourselves is text without marks, and only characters of XML 1.0
  it('no name and no record breaks it', () => {
    const marks = fc.constantFrom('<', '>', '&', '"', "'", ']]>', '&lt;', '<!--', '\0', '\n', '\ud800', '\ufffe')
    const unit = fc.oneof(
      marks,
      fc.integer({ min: 0, max: 0xffff }).map(code => String.fromCharCode(code)),
    )
    const text = fc.array(unit, { maxLength: 20 }).map(units => units.join(''))
    const step = fc.record({ what: text, detail: text, ok: fc.boolean(), fix: text })
    fc.assert(
      fc.property(text, fc.array(step, { maxLength: 4 }), (subject, steps) => {
        const xml = renderJunit([{ subject, steps }])
        const values = xml.match(/"[^"]*"/g) ?? []
        expect(values.filter(value => /[<>]/.test(value))).toEqual([])
        const rest = xml.replace(/"[^"]*"/g, '').replace(/<[^<>]*>/g, '')
        expect(rest).not.toMatch(/[<>"]/)
        expect(xml.replace(/&(#\d+|lt|gt|amp|quot|apos);/g, '')).not.toContain('&')
        expect(xml.isWellFormed()).toBe(true)
        expect(xml).not.toMatch(/[^\P{Cc}\n]|[\ufffe\uffff]/u)
      }),
    )
  })
})
