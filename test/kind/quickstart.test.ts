/**
 * The quick start of README.md, command by command: its `sh quickstart` blocks run as they are, in one shell, with two clusters of their own beside the rig.
 *
 * What a registry would give has stand-ins: `kind create cluster` is test/cluster/kind-up, the image is the rig's, the web server and curl are the toolbox.
 * kube-proxy works with nftables here; in the clusters of the rig it works with iptables.
 */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { type Checks, expectThat } from '../support/checks.ts'
import { runProgram } from '../support/netns.ts'
import { CLUSTER_SCRIPTS, clusterScript, docker, ROOT } from './rig/programs.ts'
import type { Rig } from './rig/rig.ts'

const CLUSTERS = ['east', 'west']
const TOOLBOX = 'ipref/toolbox:local'
const PATIENCE_MS = 1_200_000

export async function run(checks: Checks, rig: Rig): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-quickstart-'))
  try {
    await checks.check('the quick start of README.md: a Service of one cluster answers in the other', async () => {
      const script = quickstart()
      const standIns = await makeImages(rig.image, folder, script)
      const env = environment(rig, folder, standIns)
      const shell = ['bash', '-euo', 'pipefail', '-c', `cd '${ROOT}'\n${script}`]
      const { code, stdout, stderr } = await runProgram(['env', ...env, ...shell], { timeoutMs: PATIENCE_MS })
      const said = `${stdout}\n${stderr}`.trim().split('\n')
      expectThat(code === 0, `ended with ${code}: ${said.slice(-15).join('\n')}`)
      const last = stdout.trim().split('\n').at(-1) ?? ''
      expectThat(/^hello from web-/.test(last), `the last line is ${last}`)
      return last
    })
  } finally {
    for (const name of CLUSTERS) await clusterScript(['kind-down', name])
    rmSync(folder, { recursive: true, force: true })
  }
}

function quickstart(): string {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const blocks = [...readme.matchAll(/^```sh quickstart\n([\s\S]*?)^```$/gm)].map(match => match[1]!)
  if (blocks.length === 0) throw new Error('README.md has no quick start')
  return blocks.join('\n')
}

async function makeImages(ours: string, folder: string, script: string): Promise<string[]> {
  const named = (pattern: RegExp) => pattern.exec(script)?.[0] ?? 'nothing'
  const [server, client] = [named(/nginx:[\d.]+/), named(/curlimages\/curl:[\d.]+/)]
  await docker('tag', ours, named(/ipref:[\d.]+/))
  const page = 'mkdir -p /www && echo hello from $(hostname) > /www/index.html && exec busybox httpd -f -p 80 -h /www'
  writeFileSync(join(folder, 'Dockerfile'), `FROM ${TOOLBOX}\nCMD ${JSON.stringify(['sh', '-c', page])}\n`)
  await docker('build', '--quiet', '--tag', server, folder)
  await docker('tag', TOOLBOX, client)
  return [server, client]
}

/** With stand-ins first on the PATH, and the clusters' kubeconfigs in the environment. */
function environment(rig: Rig, folder: string, standIns: readonly string[]): string[] {
  const { programs, kubeconfig } = rig.a.facts
  const kinds = join(programs, 'kind')
  const standIn = (name: string, text: string) => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`)
    chmodSync(join(folder, name), 0o755)
  }
  standIn('npm', 'exit 0')
  standIn(
    'kind',
    `case "$1 $2" in
  'create cluster') exec '${join(CLUSTER_SCRIPTS, 'kind-up')}' "$4" 0 --proxy-mode nftables ;;
  'load docker-image') exec '${kinds}' "$@" ${standIns.join(' ')} ;;
esac
exec '${kinds}' "$@"`,
  )
  const kubeconfigs = CLUSTERS.map(name => join(dirname(dirname(kubeconfig)), `kind-${name}`, 'kubeconfig'))
  return [`PATH=${[folder, programs, process.env.PATH].join(delimiter)}`, `KUBECONFIG=${kubeconfigs.join(delimiter)}`]
}
