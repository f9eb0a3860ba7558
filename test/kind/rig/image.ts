/**
 * Our image for the nodes: built by `npm run image` from the files as they are, its tag made of their content, so that a run uses what is there already.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { clusterScript, docker, dockerHas, ROOT, tell } from './programs.ts'

const REPOSITORY = 'ipref'
/** What the Dockerfile copies, and what says how. */
const SOURCES = ['Dockerfile', 'LICENSE', 'package.json', 'package-lock.json', 'helm/image', 'helm/image-packages']
const FOLDERS = ['ipref', 'runtime', 'dns', 'resources', 'gateway', 'operator', 'cli']

/** Returns its name. */
export async function buildImage(): Promise<string> {
  const image = `${REPOSITORY}:${contentTag()}`
  if (await dockerHas('image', image)) return image
  // instead of debian:bookworm-slim, which is in a registry
  const base = await clusterScript(['slim-image'])
  await tell(['sh', join(ROOT, 'helm/image'), '--prepared', '--base', base, '--tag', image], { timeoutMs: 900_000 })
  return image
}

export async function megabytesOf(image: string): Promise<number> {
  return Math.round(Number(await docker('image', 'inspect', '--format', '{{.Size}}', image)) / 1e6)
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
