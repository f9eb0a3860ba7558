/** Helm for tests of the chart: the one that `npm run setup:cluster` has built; nothing is built here. Without, the tests count as skipped, with the reason. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'
import { CHART } from './chartFiles.ts'

const ROOT = join(import.meta.dirname, '../..')
const RELEASE = 'ipref'
export const NAMESPACE = 'ipref'

export interface Rendered {
  apiVersion: string
  kind: string
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> }
  [member: string]: unknown
}

export interface HelmRun {
  code: number
  output: string
  errors: string
}

function findHelm(): { helm: string } | { missing: string } {
  const { status, stdout, stderr } = spawnSync('bash', [join(ROOT, 'test/cluster/install-tools'), 'helm'], {
    env: { ...process.env, IPREF_NO_BUILD: '1', IPREF_NO_INSTALL: '1' },
    encoding: 'utf8',
  })
  if (status === 0) return { helm: join(stdout.trim(), 'helm') }
  return { missing: `helm: ${stderr.trim().split('\n').at(-1) ?? 'not built'}; npm run setup:cluster sees to it` }
}

const found = findHelm()
/** undefined: it is there. */
export const helmProblem: string | undefined = 'missing' in found ? found.missing : undefined

export function runHelm(argv: readonly string[], values: unknown = {}): HelmRun {
  if ('missing' in found) throw new Error(found.missing)
  const folder = mkdtempSync(join(tmpdir(), 'ipref-helm-'))
  try {
    const file = join(folder, 'values.yaml')
    writeFileSync(file, writeYaml(values))
    // nothing of the person's who runs the tests
    const env = { PATH: process.env.PATH!, HOME: folder, HELM_CACHE_HOME: folder, HELM_CONFIG_HOME: folder }
    const ran = spawnSync(found.helm, [...argv, '--values', file], {
      cwd: ROOT,
      env,
      encoding: 'utf8',
      timeout: 60_000,
    })
    return { code: ran.status ?? 1, output: ran.stdout, errors: ran.stderr }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

export function template(values: unknown, more: readonly string[] = []): HelmRun {
  return runHelm(['template', RELEASE, CHART, '--namespace', NAMESPACE, ...more], values)
}

/** The objects of the chart under these values; throws what Helm says. */
export function render(values: unknown, more: readonly string[] = []): Rendered[] {
  const { code, output, errors } = template(values, more)
  if (code !== 0) throw new Error(errors)
  return readYaml(output).flatMap(({ value, problems }) => {
    if (problems.length > 0) throw new Error(JSON.stringify(problems))
    return value ? [value as Rendered] : []
  })
}

export function pick(objects: readonly Rendered[], kind: string, name: string): Rendered {
  const one = objects.find(object => object.kind === kind && object.metadata.name === name)
  if (!one) throw new Error(`no ${kind} ${name}`)
  return one
}
