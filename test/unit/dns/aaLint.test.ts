/** The rules of `ipref aa lint`: a row each, and zones in which there is nothing to find. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { contextsToAsk, type LintRule, lintZone, type Outside } from '../../../dns/aaLint.ts'
import { judgeString, judgeStrings } from '../../../dns/aaText.ts'
import { formatName, type Name } from '../../../dns/name.ts'
import { parseZoneText } from '../../../dns/zoneText.ts'
import { parseAddress } from '../../../ipref/address.ts'
import { APEX, EXAMPLE, name } from './builders.ts'

const GW = 'gw IN A 198.51.100.1\n'
const APEX_LINES = APEX.split('\n').length - 1

function lint(text: string, outside: Record<string, Outside> = {}) {
  const { records, lines, problems } = parseZoneText(APEX + text, { origin: EXAMPLE, file: 'zone' })
  expect(problems).toEqual([])
  const map = new Map<Name, Outside>(Object.entries(outside).map(([key, value]) => [name(key), value]))
  return lintZone({ origin: EXAMPLE, records, lines }, map)
}

/** line (of the text after the apex), rule and severity of each finding */
function found(text: string, outside: Record<string, Outside> = {}) {
  return lint(text, outside).findings.map(({ line, rule, severity }) => [line! - APEX_LINES, rule, severity])
}

const reached = (...texts: string[]): Outside => ({ addresses: texts.map(text => parseAddress(text)!), aliases: [] })

describe('a zone in order', () => {
  it('has nothing to be found', () => {
    const report = lint(
      `${GW}gw IN AAAA 2001:db8::1
web IN TXT "AA gw.example.com + 11" "AA 198.51.100.7 + 11"
mail 60 IN TXT "v=spf1 +all" "AA gw.example.com. + 0-7"
mail IN TXT "AA 2001:db8::7+8000--1"
www IN CNAME web
other IN TXT "AA gw.example.net + 12" "hello + goodbye" "aa batteries" "ssh-rsa AAAAB3Nza+C1"
alias IN TXT "AA far.example.com + 13"
far IN CNAME gw.example.net.
*.any IN A 198.51.100.9
starred IN TXT "AA x.any.example.com + 14"
sub IN NS ns.sub
ns.sub IN A 192.0.2.9
below IN TXT "AA gw.sub.example.com + 15" "AA ns.sub.example.com + 16"
`,
      { 'gw.example.net': reached('203.0.113.1'), 'gw.sub.example.com': reached('203.0.113.2') },
    )
    expect(report).toEqual({ findings: [], aaRecords: 9, names: 6 })
  })

  it('asks only for names that the zone itself does not settle', () => {
    const text = `${GW}a TXT "AA gw.example.com + 11"\nb TXT "AA alias.example.com + 12"\nalias CNAME GW.Example.NET.\nc TXT "AA x.sub.example.com + 2"\nsub NS ns.example.net.\n`
    const { records } = parseZoneText(APEX + text, { origin: EXAMPLE, file: 'zone' })
    expect(contextsToAsk({ origin: EXAMPLE, records }).map(formatName)).toEqual([
      'gw.example.net.',
      'x.sub.example.com.',
    ])
  })
})

describe('strings', () => {
  it.each<[string, string, LintRule, 'error' | 'warning', string]>([
    ['lower case', 'aa gw.example.com + 11', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['mixed case', 'Aa 198.51.100.1+11', 'prefix', 'error', '"AA 198.51.100.1+11"'],
    ['a tab behind AA', 'AA\tgw.example.com + 11', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['a colon behind AA', 'AA: gw.example.com + 11', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['a no-break space behind AA', 'AA\xc2\xa0gw.example.com + 11', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['blanks before AA', ' AA gw.example.com + 11', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['quotes in the text', '"AA gw.example.com + 11"', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['no space behind AA', 'AAgw.example.com + 11', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['no AA, a name', 'gw.example.com + 11', 'prefix', 'error', '"AA gw.example.com + 11"'],
    ['no AA, an address', '2001:db8::1 + 0-7000', 'prefix', 'error', '"AA 2001:db8::1 + 0-7000"'],
    ['no plus', 'AA gw.example.com 11', 'plus', 'error', 'AA gw.example.com + 11'],
    ['two addresses in one string', 'AA 198.51.100.1 + 11 + 12', 'plus', 'error', 'one string for each'],
    ['a plus as sign', 'AA gw.example.com + +5', 'plus', 'error', '"AA gw.example.com + 5"'],
    ['a minus as sign', 'AA gw.example.com + -5', 'reference', 'error', '"AA gw.example.com + 5"'],
    ['no reference', 'AA gw.example.com +', 'reference', 'error', 'a number'],
    ['hexadecimal without dashes', 'AA gw.example.com + 9a2', 'reference', 'error', '"AA gw.example.com + 2466"'],
    ['hexadecimal with 0x', 'AA gw.example.com + 0x12345', 'reference', 'error', '"AA gw.example.com + 1-2345"'],
    ['2^128', `AA gw.example.com + ${2n ** 128n}`, 'reference', 'error', 'a number'],
    ['nine groups', 'AA gw.example.com + 1-2-3-4-5-6-7-8-9', 'reference', 'error', 'groups'],
    ['a group of five digits', 'AA gw.example.com + 1-00002', 'reference', 'error', 'groups'],
    ['two double dashes', 'AA gw.example.com + 1--2--3', 'reference', 'error', 'groups'],
    ['words behind the reference', 'AA gw.example.com + 11 web', 'reference', 'error', 'a number'],
    ['reference 0', 'AA gw.example.com + 0', 'reference-zero', 'error', 'from 2 on'],
    ['reference 0 as groups', 'AA gw.example.com + 0-0', 'reference-zero', 'error', 'from 2 on'],
    ['reference 1', 'AA gw.example.com + 1', 'reference-gateway', 'warning', 'from 2 on'],
    ['zeros before', 'AA gw.example.com + 0011', 'reference', 'warning', '11'],
    ['a dynamic reference', 'AA gw.example.com + 5000', 'reference-dynamic', 'warning', '904'],
    ['bytes that are no text', 'AA gw.example.com + 11\x00', 'characters', 'error', 'AA'],
    ['a no-break space', 'AA gw.example.com\xc2\xa0+ 11', 'characters', 'error', 'AA'],
    ['no context', 'AA + 11', 'context', 'error', 'AA gw.example.com + 11'],
    ['a broken address', 'AA 198.51.100.256 + 11', 'context', 'error', 'the address'],
    ['a port', 'AA 198.51.100.1:1045 + 11', 'context', 'error', '"AA 198.51.100.1 + 11"'],
    ['brackets', 'AA [2001:db8::1] + 11', 'context', 'error', '"AA 2001:db8::1 + 11"'],
    ['a name with a blank', 'AA gw example + 11', 'context', 'error', 'a gateway'],
    ['zeros as context', 'AA 0.0.0.0 + 11', 'context', 'error', 'the gateway'],
    ['multicast', 'AA 224.0.0.1 + 11', 'context', 'error', 'the gateway'],
    ['IPv6 multicast', 'AA ff02::1 + 11', 'context', 'error', 'the gateway'],
    ['broadcast', 'AA 255.255.255.255 + 11', 'context', 'error', 'the gateway'],
    ['loopback', 'AA ::1 + 11', 'context', 'error', 'the gateway'],
    ['link-local', 'AA 169.254.1.1 + 11', 'context', 'error', 'the gateway'],
    ['private', 'AA 10.1.0.1 + 11', 'context-private', 'warning', 'the gateway'],
    ['shared address space', 'AA 100.64.0.1 + 11', 'context-private', 'warning', 'the gateway'],
    ['unique local', 'AA fd00::1 + 11', 'context-private', 'warning', 'the gateway'],
    ['a single label', 'AA gw + 11', 'context-unqualified', 'error', 'gw.example.com'],
  ])('%s: %j is %s (%s)', (_what, text, rule, severity, right) => {
    const judgement = judgeString(text)
    expect(judgement?.findings).toEqual([
      { rule, severity, what: expect.stringMatching(/./), right: expect.stringContaining(right) },
    ])
  })

  it.each([
    'v=spf1 +all',
    'aa batteries',
    'AAAA',
    'ssh-rsa AAAAB3Nza+C1',
    'C1+D2',
    'A.B+C',
    '',
    'a + b',
    'version 1.2 + 3',
  ])('%j has nothing to do with AA records', text => expect(judgeString(text)).toBeUndefined())

  it.each([
    { strings: ['AA gw.example.com', '+ 11'], right: '"AA gw.example.com + 11"' },
    { strings: ['AA', 'gw.example.com', '+', '11'], right: '"AA gw.example.com + 11"' },
    { strings: ['AA gw.exam', 'ple.com + 11'], right: '"AA gw.example.com + 11"' },
    { strings: ['AA gw.example.com + 1', '1'], right: '"AA gw.example.com + 11"' },
  ])('torn: $strings', ({ strings, right }) => {
    const judgements = judgeStrings(strings)
    expect(judgements.map(j => j.findings)).toEqual([
      [{ rule: 'torn', severity: 'error', what: expect.stringContaining('strings'), right: `one string, ${right}` }],
    ])
  })

  it('strings beside each other are not torn', () => {
    const judgements = judgeStrings(['AA 198.51.100.1 + 11', 'AA 198.51.100.2 + 12', 'and more'])
    expect(judgements.map(j => [j.text, j.findings])).toEqual([
      ['AA 198.51.100.1 + 11', []],
      ['AA 198.51.100.2 + 12', []],
    ])
  })

  it('no text makes it throw, and what is right by itself stays so', () => {
    const piece = fc.constantFrom(
      'AA ',
      'aa',
      '+',
      ' ',
      '11',
      'gw.example.com',
      '198.51.100.1',
      '-',
      '::',
      '"',
      '\xff',
      '0x',
    )
    fc.assert(
      fc.property(
        fc.array(
          fc.array(piece, { maxLength: 6 }).map(p => p.join('')),
          { maxLength: 5 },
        ),
        strings => {
          for (const { record, findings } of judgeStrings(strings))
            expect(record !== undefined || findings.length > 0).toBe(true)
        },
      ),
    )
  })
})

describe('zones', () => {
  const many = (n: number, of: (i: number) => string) => Array.from({ length: n }, (_, i) => of(i)).join('')

  it.each<{ what: string; text: string; finds: [number, LintRule, 'error' | 'warning'][] }>([
    { what: 'unquoted words', text: `${GW}web TXT AA gw.example.com + 11\n`, finds: [[2, 'torn', 'error']] },
    {
      what: 'CNAME beside TXT',
      text: `${GW}web TXT "AA gw.example.com + 11"\nweb CNAME gw\n`,
      finds: [[3, 'cname-beside', 'error']],
    },
    {
      what: 'an address beside',
      text: `${GW}web TXT "AA gw.example.com + 11"\nweb A 10.1.0.1\n`,
      finds: [[3, 'address-beside', 'warning']],
    },
    {
      what: 'the same twice',
      text: 'web TXT "AA 198.51.100.1 + 11"\nweb TXT "AA 198.51.100.1+ 0-b"\n',
      finds: [[2, 'double', 'warning']],
    },
    {
      what: 'a name and its address',
      text: `${GW}web TXT "AA gw.example.com + 11"\nweb TXT "AA 198.51.100.1 + 11"\n`,
      finds: [[3, 'double', 'warning']],
    },
    {
      what: 'two hosts at one gateway',
      text: `${GW}web TXT "AA gw.example.com + 11"\nweb TXT "AA gw.example.com + 12"\n`,
      finds: [],
    },
    { what: 'TTL 0', text: 'web 0 TXT "AA 198.51.100.1 + 11"\n', finds: [[1, 'ttl', 'warning']] },
    {
      what: 'a TTL above the life of a mapping',
      text: 'web 1d TXT "AA 198.51.100.1 + 11"\n',
      finds: [[1, 'ttl', 'warning']],
    },
    { what: '64 strings', text: many(64, i => `web TXT "AA 198.51.100.1 + ${i + 2}"\n`), finds: [] },
    {
      what: '65 strings',
      text: many(65, i => `web TXT "AA 198.51.100.1 + ${i + 2}"\n`),
      finds: [[65, 'too-many', 'error']],
    },
    {
      what: '9 names of gateways',
      text: many(9, i => `g${i} A 198.51.100.${i + 1}\n`) + many(9, i => `web TXT "AA g${i}.example.com + 2"\n`),
      finds: [[10, 'too-many', 'error']],
    },
    {
      what: 'a context that is not there',
      text: 'web TXT "AA gw.example.com + 11"\n',
      finds: [[1, 'unresolved', 'error']],
    },
    {
      what: 'a context without addresses',
      text: 'web TXT "AA gw.example.com + 11"\ngw TXT "hello"\n',
      finds: [[1, 'unresolved', 'error']],
    },
    {
      what: 'an alias of nothing',
      text: 'web TXT "AA gw.example.com + 11"\ngw CNAME gone\n',
      finds: [[1, 'unresolved', 'error']],
    },
    {
      what: 'an alias of itself',
      text: 'web TXT "AA gw.example.com + 11"\ngw CNAME gw\n',
      finds: [[1, 'unresolved', 'error']],
    },
    {
      what: 'a private gateway',
      text: 'web TXT "AA gw.example.com + 11"\ngw A 192.168.0.1\n',
      finds: [[1, 'context-private', 'warning']],
    },
    {
      what: 'a loopback gateway',
      text: 'web TXT "AA gw.example.com + 11"\ngw A 127.0.0.1\n',
      finds: [[1, 'context', 'error']],
    },
    { what: 'names without AA records', text: 'web TXT "v=spf1 -all"\nweb A 10.1.0.1\n', finds: [] },
  ])('$what', ({ text, finds }) => expect(found(text)).toEqual(finds))

  it.each<{ what: string; outside: Outside; rule: LintRule; severity: 'error' | 'warning'; says: RegExp }>([
    {
      what: 'no such name',
      outside: { addresses: [], aliases: [], missing: 'does not exist' },
      rule: 'unresolved',
      severity: 'error',
      says: /gw\.example\.net\. does not exist/,
    },
    {
      what: 'an alias of nothing',
      outside: { addresses: [], aliases: ['x.test.'], missing: 'does not exist' },
      rule: 'unresolved',
      severity: 'error',
      says: /alias of x\.test\., which does not exist/,
    },
    {
      what: 'nobody answers',
      outside: { failed: 'no answer from 192.0.2.53' },
      rule: 'not-looked-up',
      severity: 'warning',
      says: /no answer from 192\.0\.2\.53/,
    },
    {
      what: 'a private address',
      outside: reached('10.0.0.1'),
      rule: 'context-private',
      severity: 'warning',
      says: /10\.0\.0\.1/,
    },
  ])('a name elsewhere: $what', ({ outside, rule, severity, says }) => {
    const { findings } = lint('web TXT "AA gw.example.net + 11"\n', { 'gw.example.net': outside })
    expect(findings).toEqual([
      {
        rule,
        severity,
        name: 'web.example.com.',
        line: APEX_LINES + 1,
        what: expect.stringMatching(says),
        right: expect.any(String),
      },
    ])
  })

  it('without a file there are no lines', () => {
    const { records } = parseZoneText(`${APEX}web TXT "aa 198.51.100.1 + 11"\n`, { origin: EXAMPLE, file: 'zone' })
    expect(lintZone({ origin: EXAMPLE, records }, new Map()).findings[0]!.line).toBeUndefined()
  })
})
