/** The file of a backup: read as it was written, and refused when a byte of it is missing, changed or too many. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  BackupLines,
  type BackupMapping,
  type BackupObject,
  BackupReader,
  type Entry,
} from '../../../cli/backupFile.ts'
import { readBackup, writeBackup } from '../../../cli/backupStorage.ts'
import { API_VERSION, type IprefReference } from '../../../resources/kinds.ts'

const NOW = Date.UTC(2030, 0, 1)

const theirs: BackupMapping = {
  kind: 'theirs',
  local: [0, 0, 0xffff, 0x0af10943],
  context: [0, 0, 0xffff, -969710590],
  reference: [0, 0, 0, 22],
  expires: NOW / 1000 + 14_400,
}
const ours: BackupMapping = {
  kind: 'ours',
  local: [0x20010db8, 0, 0, 7],
  context: [0, 0, 0, 0],
  reference: [0, 0, 0x7f1d20, -1849451150],
  expires: NOW / 1000 + 60,
}
const reference: IprefReference = {
  apiVersion: API_VERSION,
  kind: 'IprefReference',
  metadata: { name: '6c3d6167890d72', annotations: { 'ipref.io/last-holder': 'web-0 2029-12-31T00:00:00Z' } },
  spec: { namespace: 'shop', name: 'web', uid: 'u-1', slot: 2, family: 'IPv6', releasedAt: '2029-12-31T00:00:00Z' },
}
const object: BackupObject = {
  apiVersion: API_VERSION,
  kind: 'IprefService',
  metadata: { namespace: 'shop', name: 'web', annotations: { note: 'täglich' } },
  spec: { target: { service: { name: 'web' } } },
}
const all: Entry[] = [
  { what: 'reference', reference },
  { what: 'object', object },
  { what: 'mapping', mapping: theirs },
  { what: 'mapping', mapping: ours },
]

function linesOf(entries: readonly Entry[]): string[] {
  const lines = new BackupLines()
  return [lines.header(NOW), ...entries.map(entry => lines.entry(entry)), lines.end()]
}

let folder = ''
let file = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-backup-'))
  file = join(folder, 'backup')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** What is wrong with it; undefined: nothing. */
async function problemOf(bytes: Buffer | string): Promise<string | undefined> {
  writeFileSync(file, bytes)
  const outcome = await readBackup(file).catch((error: Error) => error)
  if (!(outcome instanceof Error)) return undefined
  expect(outcome.message.startsWith(file)).toBe(true)
  return outcome.message.slice(file.length)
}

describe('a backup', () => {
  it('is read as it was written', async () => {
    await writeBackup(file, linesOf(all))
    const { made, references, objects, mappings } = await readBackup(file)
    expect({ made, references, objects, mappings: [...mappings] }).toEqual({
      made: '2030-01-01T00:00:00Z',
      references: [reference],
      objects: [object],
      mappings: [theirs, ours],
    })
  })

  it('is text that people can read', () => {
    expect(linesOf(all).join('')).toBe(`{"ipref":"backup","version":1,"made":"2030-01-01T00:00:00Z"}
{"reference":"6c-3d61-6789-d72","of":"shop/web","slot":2,"family":"IPv6","uid":"u-1","releasedAt":"2029-12-31T00:00:00Z","annotations":{"ipref.io/last-holder":"web-0 2029-12-31T00:00:00Z"}}
{"object":{"apiVersion":"ipref.io/v1alpha1","kind":"IprefService","metadata":{"namespace":"shop","name":"web","annotations":{"note":"täglich"}},"spec":{"target":{"service":{"name":"web"}}}}}
{"local":"10.241.9.67","remote":"198.51.100.2 + 22","expires":"2030-01-01T04:00:00Z"}
{"local":"2001:db8::7","remote":"ours + 7f-1d20-91c3-9d72","expires":"2030-01-01T00:01:00Z"}
${linesOf(all).at(-1)}`)
  })

  it('holds any mapping', () => {
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
    const four = fc.tuple(word, word, word, word)
    const mapping = fc.record({
      kind: fc.constant<'theirs'>('theirs'),
      local: four,
      context: four,
      reference: four.filter(words => words.some(one => one !== 0)),
      expires: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
    })
    fc.assert(
      fc.property(fc.array(mapping), mappings => {
        const reader = new BackupReader()
        for (const line of linesOf(mappings.map(one => ({ what: 'mapping', mapping: one }))))
          expect(reader.line(Buffer.from(line.trimEnd()))).toBeUndefined()
        const content = reader.finish()
        expect(typeof content === 'string' ? content : [...content.mappings]).toEqual(mappings)
      }),
    )
  })

  it('is readable by its owner alone, and replaces the one before', async () => {
    writeFileSync(file, 'before', { mode: 0o644 })
    await writeBackup(file, linesOf(all))
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(readFileSync(file, 'utf8')).toBe(linesOf(all).join(''))
    expect(readdirSync(folder)).toEqual(['backup'])
  })

  it('that fails leaves the one before, and nothing else', async () => {
    writeFileSync(file, 'before')
    function* lines() {
      yield* linesOf(all).slice(0, 3)
      throw new Error('the store cannot be read')
    }
    await expect(writeBackup(file, lines())).rejects.toThrow('the store cannot be read')
    await expect(writeBackup(join(folder, 'nowhere/backup'), linesOf(all))).rejects.toThrow(/nowhere/)
    await expect(writeBackup(folder, linesOf(all))).rejects.toThrow(/no ordinary file/)
    expect(readdirSync(folder)).toEqual(['backup'])
    expect(readFileSync(file, 'utf8')).toBe('before')
  })
})

describe('a damaged backup is refused', () => {
  const whole = Buffer.from(linesOf(all).join(''))

  it('cut at any byte', async () => {
    expect(await problemOf(whole)).toBeUndefined()
    for (let length = 0; length < whole.length; length++)
      expect([length, await problemOf(whole.subarray(0, length))]).toEqual([
        length,
        expect.stringMatching(/is empty|is no backup of ipref|was cut off after line \d/),
      ])
  })

  it('with any byte changed', async () => {
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole)
      changed[at]! ^= 1
      expect([at, await problemOf(changed)]).toEqual([at, expect.any(String)])
    }
  })

  it('with any line missing, twice, or after the next', async () => {
    const lines = linesOf(all)
    for (let i = 0; i < lines.length; i++) {
      const [before, line, after] = [lines.slice(0, i), lines[i]!, lines.slice(i + 1)]
      expect(await problemOf([...before, ...after].join(''))).toEqual(expect.any(String))
      expect(await problemOf([...before, line, line, ...after].join(''))).toEqual(expect.any(String))
      if (i + 1 < lines.length)
        expect(await problemOf([...before, after[0], line, ...after.slice(1)].join(''))).toEqual(expect.any(String))
    }
  })

  it.each([
    ['nothing', '', /is empty/],
    ['another file', '# hosts\n127.0.0.1 localhost\n', /is no backup of ipref/],
    ['no text', Buffer.alloc(9 << 20, 7), /is no backup of ipref/],
    ['another JSON', '{"kind":"List"}\n', /is no backup of ipref/],
    ['a newer version', '{"ipref":"backup","version":2}\n', /was written in format 2; this ipref knows 1/],
    ['another checksum', `${linesOf(all).slice(0, -1).join('')}{"end":{"lines":5,"sha256":"0"}}\n`, /checksum/],
    [
      'another number of lines',
      `${linesOf(all).slice(0, -1).join('')}{"end":{"lines":4}}\n`,
      /5 lines and should have 4/,
    ],
    ['something behind its end', `${whole}x`, /something behind its last line/],
    ['a line behind its end', `${whole}{}\n`, /more behind its last line/],
  ])('that holds %s', async (_what, bytes, said) => {
    expect(await problemOf(bytes)).toMatch(said)
  })

  const claim = '"of":"shop/web","slot":0,"family":"IPv4","uid":"u"'
  it.each([
    ['no address', '{"local":"10.1","remote":"198.51.100.2 + 22","expires":"2030-01-01T00:00:00Z"}', /no mapping/],
    ['no remote', '{"local":"10.1.0.1","remote":"web","expires":"2030-01-01T00:00:00Z"}', /no mapping: remote web/],
    ['reference 0', '{"local":"10.1.0.1","remote":"ours + 0","expires":"2030-01-01T00:00:00Z"}', /no mapping/],
    ['no time', '{"local":"10.1.0.1","remote":"ours + 22","expires":"tomorrow"}', /no mapping/],
    ['a time too far', '{"local":"10.1.0.1","remote":"ours + 22","expires":"2999-01-01T00:00:00Z"}', /no mapping/],
    [
      'a field too many',
      '{"local":"10.1.0.1","remote":"ours + 22","expires":"2030-01-01T00:00:00Z","x":1}',
      /no mapping/,
    ],
    ['a reference that is none', `{"reference":"x",${claim}}`, /no reference/],
    ["the gateway's reference", `{"reference":"1",${claim}}`, /the gateway's own reference/],
    ['a dynamic reference', `{"reference":"9d72",${claim}}`, /no reference|hexadecimal/],
    ['no owner', '{"reference":"22","of":"web","slot":0,"family":"IPv4","uid":"u"}', /no reference/],
    ['a slot below 0', '{"reference":"22","of":"shop/web","slot":-1,"family":"IPv4","uid":"u"}', /spec.slot/],
    ['a kind that is none of ours', '{"object":{"kind":"Pod"}}', /no object of/],
    [
      'an object that is not valid',
      '{"object":{"apiVersion":"ipref.io/v1alpha1","kind":"IprefService"}}',
      /IprefService/,
    ],
    ['something unknown', '{"lock":1}', /nothing that is known: lock/],
    ['no JSON', '{"lock":', /no JSON object/],
    ['a list', '[1]', /no JSON object/],
  ])('with a line that says %s, with a right checksum too', (_what, line, said) => {
    const reader = new BackupReader()
    expect(reader.line(Buffer.from(new BackupLines().header(NOW).trimEnd()))).toBeUndefined()
    const problem = reader.line(Buffer.from(line))
    expect(problem).toMatch(said)
    expect(problem).toMatch(/^line 2/)
  })

  it('that gives one reference to two', () => {
    const reader = new BackupReader()
    const line = (text: string) => reader.line(Buffer.from(text.trimEnd()))
    line(new BackupLines().header(NOW))
    expect(line(`{"reference":"22",${claim}}`)).toBeUndefined()
    expect(line(`{"reference":"22",${claim.replace('web', 'other')}}`)).toBe('line 3: reference 22 is there twice')
  })
})
