/** The scripts of the test cluster: right in syntax and named in their page; and what they say when they cannot do their work. */
import { spawnSync } from 'node:child_process'
import { accessSync, constants, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ROOT, read } from './files.ts'

const CLUSTER = 'test/cluster'
const folder = mkdtempSync(join(tmpdir(), 'ipref-cluster-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const scripts = readdirSync(join(ROOT, CLUSTER), { recursive: true, encoding: 'utf8' }).filter(
  name => !name.startsWith('tools') && /^#!|^# Sourced by/.test(readIfFile(name)),
)
const commands = scripts.filter(name => !name.endsWith('.sh'))

function readIfFile(name: string): string {
  try {
    return read(join(CLUSTER, name))
  } catch {
    return ''
  }
}

function setup(env: Record<string, string>): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync('bash', [join(CLUSTER, 'setup')], {
    cwd: ROOT,
    env: { PATH: process.env.PATH!, HOME: folder, IPREF_CLUSTER_CACHE: join(folder, 'cache'), ...env },
    encoding: 'utf8',
    timeout: 150_000,
  })
  return { code: status, out: stdout, err: stderr }
}

describe('scripts of the test cluster', () => {
  it.each(scripts)('%s is right in syntax', name => {
    const { status, stderr } = spawnSync('bash', ['-n', join(CLUSTER, name)], { cwd: ROOT, encoding: 'utf8' })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })

  it.each(commands)('%s can be run, and the page names it', name => {
    accessSync(join(ROOT, CLUSTER, name), constants.X_OK)
    expect(read(`${CLUSTER}/README.md`)).toMatch(new RegExp(`\\b${name}\\b`))
  })

  it('the wheel of Go has the version that the modules ask for', () => {
    const wanted = /^go (\S+)$/m.exec(read(`${CLUSTER}/tools/go.mod`))![1]
    expect(read(`${CLUSTER}/go-wheel.txt`)).toContain(`==${wanted} `)
  })
})

describe('npm run setup:cluster', () => {
  it('builds nothing where KUBECONFIG names a server', () => {
    expect(setup({ KUBECONFIG: '/some/kubeconfig' })).toEqual({
      code: 0,
      out: expect.stringContaining('/some/kubeconfig'),
      err: '',
    })
  })

  it('refuses a folder of programs that lacks one, by name', () => {
    expect(setup({ KUBEBUILDER_ASSETS: folder })).toMatchObject({
      code: 1,
      err: expect.stringMatching(/KUBEBUILDER_ASSETS has no etcd\n$/),
    })
  })

  it('says what is not built where it may not build', () => {
    expect(setup({ IPREF_NO_BUILD: '1' })).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(/error: not built: kube-control kubectl\n$/),
    })
  })
})
