/** Every program starts under the plain Node of the packages: no loader, no flag, nothing on standard error that nobody asked for. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ROOT, read } from './files.ts'

const NODE = join(ROOT, 'node_modules/.bin/node')
const { version } = JSON.parse(read('package.json')) as { version: string }
const folder = mkdtempSync(join(tmpdir(), 'ipref-entry-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

// what a test runner puts there would hide a flag that the program needs
function run(program: string, args: readonly string[], cwd = ROOT): { code: number | null; out: string; err: string } {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, env, encoding: 'utf8', timeout: 150_000 })
  return { code: status, out: stdout, err: stderr }
}

describe('entry points', () => {
  it.each([
    { args: ['help'], code: 0, out: /usage: ipref COMMAND/ },
    { args: ['version'], code: 0, out: new RegExp(`ipref ${version.replaceAll('.', '\\.')}`) },
    { args: ['gateway', '-help'], code: 0, out: /-encode-net PREFIX/ },
    { args: ['help', 'trace'], code: 0, out: /usage: ipref trace NAME\|ADDRESS/ },
    { args: ['gateway', '-gateway', '198.51.100.1', '-check-config'], code: 0, out: /right/ },
    { args: ['ref', '0-9a2'], code: 0, out: /2466/ },
  ])('ipref $args', ({ args, code, out }) => {
    const result = run(join(ROOT, 'cli/ipref'), args)
    expect(result).toEqual({ code, out: expect.stringMatching(out), err: '' })
  })

  it.each([
    { args: ['nonsense'], code: 2, err: /unknown command nonsense/ },
    { args: ['gateway', '-encode-nett', '10.0.0.0/8'], code: 2, err: /did you mean encode-net/ },
    { args: ['status', '-control-socket', '/nowhere.sock'], code: 1, err: /is it running/ },
    { args: ['trace'], code: 2, err: /usage/ },
    { args: ['check', 'web', '-tcp', 'http'], code: 2, err: /-tcp http: no list of ports/ },
    { args: ['check', 'web.example.com', '-control-socket', '/nowhere.sock'], code: 2, err: /is it running/ },
    { args: ['ref', 'zzz'], code: 1, err: /zzz/ },
    { args: ['aa'], code: 2, err: /usage: ipref aa lint/ },
    { args: ['status', 'now'], code: 2, err: /usage: ipref status/ },
    { args: ['status', '-manifests', '/nowhere'], code: 1, err: /nowhere: is no folder/ },
    { args: ['status', '-n', 'shop'], code: 2, err: /-kube/ },
    { args: ['backup', '-data', '/nowhere'], code: 1, err: /nowhere: there is no mapping store/ },
    { args: ['backup', '-manifests', '/nowhere'], code: 1, err: /nowhere: is no folder/ },
    { args: ['backup', 'a', 'b'], code: 2, err: /usage: ipref backup/ },
    { args: ['restore'], code: 2, err: /usage: ipref restore/ },
    { args: ['restore', '/nowhere'], code: 1, err: /nowhere/ },
    { args: ['trace', 'web', '-kubeconfig', '/nowhere'], code: 1, err: /nowhere/ },
  ])('ipref $args is refused with a sentence', ({ args, code, err }) => {
    const result = run(join(ROOT, 'cli/ipref'), args)
    expect(result).toEqual({ code, out: '', err: expect.stringMatching(err) })
  })

  it.each([
    'gateway',
    'resolver',
    'dns-agent',
    'operator',
    'status',
    'trace',
    'check',
    'backup',
    'restore',
    'aa',
    'ref',
    'version',
  ])('ipref help names %s, and its own -help and --help say how it is used', command => {
    expect(run(join(ROOT, 'cli/ipref'), ['help']).out).toMatch(new RegExp(`^ {2}${command} {2,}`, 'm'))
    const [one, two] = ['-help', '--help'].map(flag => run(join(ROOT, 'cli/ipref'), [command, flag]))
    expect(one).toEqual({ code: 0, out: expect.stringContaining(`usage: ipref ${command}`), err: '' })
    expect(two).toEqual(one)
  })

  it('kubectl ipref asks the cluster', () => {
    const kubectl = join(ROOT, 'cli/kubectl-ipref')
    expect(run(kubectl, ['status', '-manifests', 'x'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('-kube'),
    })
    for (const command of ['trace', 'check', 'backup', 'restore'])
      expect(run(kubectl, [command, 'FILE', '-manifests', 'x'])).toMatchObject({
        code: 2,
        err: expect.stringContaining('-kube'),
      })
    expect(run(kubectl, ['ref', '0-9a2'])).toMatchObject({ code: 0, out: expect.stringContaining('2466') })
  })

  it('ipref is found through a symbolic link, from any folder', () => {
    symlinkSync(join(ROOT, 'cli/ipref'), join(folder, 'ipref'))
    expect(run(join(folder, 'ipref'), ['version'], folder)).toMatchObject({ code: 0, err: '' })
  })

  it.each(['test/demo/main.ts'])('%s starts', file => {
    expect(run(NODE, [file, '--nonsense'])).toMatchObject({ code: 2, err: expect.stringContaining('usage') })
  })

  it.each(['test/support/prepare', '.ci/run', 'cli/ipref', 'cli/kubectl-ipref'])(
    '%s is a shell script without mistakes of syntax',
    file => {
      expect(run('/bin/sh', ['-n', file])).toEqual({ code: 0, out: '', err: '' })
    },
  )
})
