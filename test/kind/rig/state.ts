/**
 * What a rig that is up looks like, in one small file: a later run, and other programs, find it there.
 *
 * Next to it are the values of the chart in each cluster and the files of the name server.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { ClusterFacts } from './cluster.ts'

export interface RigFacts {
  /** REPOSITORY:TAG of our image, on all nodes */
  image: string
  a: ClusterFacts
  b: ClusterFacts
  /** address of the name server between the networks */
  dns: string
}

function cacheFolder(): string {
  const { IPREF_CLUSTER_CACHE, XDG_CACHE_HOME } = process.env
  return IPREF_CLUSTER_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ipref-cluster')
}

export const RIG_FOLDER = join(cacheFolder(), 'run/rig')
const FILE = join(RIG_FOLDER, 'rig.json')

export function readState(): RigFacts | undefined {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8')) as RigFacts
  } catch {
    return undefined
  }
}

export function writeState(facts: RigFacts): void {
  writeRigFile('rig.json', `${JSON.stringify(facts, undefined, 2)}\n`)
}

/** Returns its path. */
export function writeRigFile(name: string, text: string): string {
  const path = join(RIG_FOLDER, name)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, text)
  return path
}

export function removeState(): void {
  rmSync(RIG_FOLDER, { recursive: true, force: true })
}
