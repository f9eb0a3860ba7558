/** Zone files: read, watched, and a broken one changes nothing. */
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Zone } from '../../../dns/zone.ts'
import { readZone, SerialFile, ZoneFile } from '../../../dns/zoneFiles.ts'
import { APEX, EXAMPLE } from './builders.ts'

let folder: string
let file: ZoneFile | undefined
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-zone-'))
})
afterEach(() => {
  file?.stop()
  rmSync(folder, { recursive: true, force: true })
})

function watched(path: string) {
  const zones: Zone[] = []
  const problems: string[][] = []
  file = new ZoneFile(path, EXAMPLE, { onZone: zone => zones.push(zone), onProblems: list => problems.push(list) })
  file.start()
  const until = async (isDone: () => boolean) => {
    for (let i = 0; i < 6000 && !isDone(); i++) await new Promise(resolve => setTimeout(resolve, 10))
    expect(isDone()).toBe(true)
  }
  return { zones, problems, until }
}

describe('a zone file', () => {
  it('is served as soon as it is there, and again when it changes', async () => {
    const path = join(folder, 'zone')
    const { zones, problems, until } = watched(path)
    expect(problems).toEqual([[`${path}: cannot be read (ENOENT); the zone read last stays in force`]])
    writeFileSync(path, APEX)
    await until(() => zones.length === 1)
    expect(problems.at(-1)).toEqual([])
    writeFileSync(path, `${APEX}www A 192.0.2.2\n`)
    await until(() => zones.length === 2)
    expect(zones.map(zone => zone.size)).toEqual([3, 4])
  })

  it('with mistakes changes nothing, and each mistake has its line', async () => {
    const path = join(folder, 'zone')
    writeFileSync(path, APEX)
    const { zones, problems, until } = watched(path)
    writeFileSync(path, `${APEX}www A 192.0.2.256\nftp AA 192.0.2.2\n`)
    await until(() => problems.length === 1)
    expect(problems[0]).toEqual([
      `${path}:5: 192.0.2.256 is no IPv4 address: write A 192.0.2.1`,
      expect.stringContaining(`${path}:6: AA is neither a type nor a TTL`),
    ])
    writeFileSync(path, `${APEX}www A 192.0.2.2\nwww CNAME ns1\n`)
    await until(() => problems.length === 2)
    expect(problems[1]).toEqual([expect.stringContaining(`${path}:6: CNAME beside A at www.example.com.`)])
    expect(zones).toHaveLength(1)
    writeFileSync(path, `${APEX}www A 192.0.2.3\n`)
    await until(() => zones.length === 2)
    expect(problems.at(-1)).toEqual([])
  })

  it('that is put in its place by rename is seen, and one that is taken away stays in force', async () => {
    const path = join(folder, 'zone')
    writeFileSync(path, APEX)
    const { zones, problems, until } = watched(path)
    writeFileSync(`${path}.new`, `${APEX}a A 192.0.2.2\n`)
    renameSync(`${path}.new`, path)
    await until(() => zones.length === 2)
    unlinkSync(path)
    await until(() => problems.length === 1)
    expect(problems[0]![0]).toContain('ENOENT')
    writeFileSync(path, APEX)
    await until(() => zones.length === 3)
  })

  it('of a ConfigMap, which changes where a link leads, is seen', async () => {
    for (const [version, text] of [
      ['..1', APEX],
      ['..2', `${APEX}a A 192.0.2.2\n`],
    ] as const) {
      mkdirSync(join(folder, version))
      writeFileSync(join(folder, version, 'zone'), text)
    }
    symlinkSync('..1', join(folder, '..data'))
    symlinkSync('..data/zone', join(folder, 'zone'))
    const { zones, until } = watched(join(folder, 'zone'))
    symlinkSync('..2', join(folder, '..data_tmp'))
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
    await until(() => zones.length === 2)
  })

  it('that is not UTF-8 is refused with the line', () => {
    const path = join(folder, 'zone')
    writeFileSync(path, Buffer.from(`${APEX}a TXT "\xe9"\n`, 'latin1'))
    const { zones, problems } = watched(path)
    expect(zones).toEqual([])
    expect(problems).toEqual([[`${path}:5: not UTF-8: write bytes as \\DDD, such as \\233`]])
  })
})

it('what is missing as a whole is a problem of line 1', () => {
  expect(readZone('$TTL 1\n@ NS ns\n', EXAMPLE, 'zone').problems).toEqual([
    expect.stringMatching(/^zone:1: no SOA record at example.com.: write @ SOA/),
  ])
})

describe('the file of serials', () => {
  it('gives after a restart what was kept', () => {
    const path = join(folder, 'serials')
    const problems: string[] = []
    const open = () => new SerialFile(path, problem => problems.push(problem))
    const first = open()
    expect(first.get(EXAMPLE)).toBeUndefined()
    first.set(EXAMPLE, { serial: 0xffffffff, fingerprint: 'x' })
    expect(open().get(EXAMPLE)).toEqual({ serial: 0xffffffff, fingerprint: 'x' })
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({ 'example.com.': { serial: 4294967295, fingerprint: 'x' } })
    expect(problems).toEqual([])
  })

  it.each(['', '{', 'null', '[]', '{"a..":1}', '{"a.":{"serial":"1"}}', '{"a.":null}'])(
    'that holds %j is no harm',
    text => {
      const path = join(folder, 'serials')
      writeFileSync(path, text)
      const problems: string[] = []
      const one = new SerialFile(path, problem => problems.push(problem))
      one.set(EXAMPLE, { serial: 1, fingerprint: 'x' })
      expect(new SerialFile(path, () => {}).get(EXAMPLE)).toEqual({ serial: 1, fingerprint: 'x' })
    },
  )

  it('that cannot be written is a problem, not an end', () => {
    const problems: string[] = []
    new SerialFile(join(folder, 'no', 'such', 'folder'), problem => problems.push(problem)).set(EXAMPLE, {
      serial: 1,
      fingerprint: '',
    })
    expect(problems).toEqual([expect.stringContaining('cannot be written')])
  })
})
