/**
 * Our image for the nodes: built by `npm run image` from the files as they are, its tag made of their content, so that a run uses what is there already.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { clusterScript, docker, dockerHas, ROOT, tell } from './programs.ts'

const REPOSITORY = 'ipref'
const BASE = 'ipref/base:bookworm'
/** What the Dockerfile copies, and what says how. */
const SOURCES = ['Dockerfile', 'LICENSE', 'package.json', 'package-lock.json', 'helm/image', 'helm/image-packages']
const FOLDERS = ['ipref', 'runtime', 'dns', 'resources', 'gateway', 'operator', 'cli']

/** Returns its name. */
export async function buildImage(): Promise<string> {
  const image = `${REPOSITORY}:${contentTag()}`
  if (await dockerHas('image', image)) return image
  // the cluster tier makes the base, which `docker build` cannot fetch without a registry
  if (!(await dockerHas('image', BASE))) await clusterScript(['kind-image'])
  await tell(['sh', join(ROOT, 'helm/image'), '--prepared', '--base', BASE, '--tag', image], { timeoutMs: 900_000 })
  return image
}

export async function imageMegabytes(image: string): Promise<{ all: number; base: number }> {
  const size = async (name: string) => Number(await docker('image', 'inspect', '--format', '{{.Size}}', name)) / 1e6
  return { all: Math.round(await size(image)), base: Math.round(await size(BASE)) }
}

function contentTag(): string {
  const hash = createHash('sha256')
  const files = FOLDERS.flatMap(folder =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile() && !entry.name.endsWith('.md') && !entry.name.endsWith('.wat'))
      .map(entry => join(entry.parentPath, entry.name)),
  )
  for (const file of [...SOURCES.map(name => join(ROOT, name)), ...files].sort()) {
    hash.update(file.slice(ROOT.length)).update(readFileSync(file))
  }
  return `kind-${hash.digest('hex').slice(0, 12)}`
}
