/** Which cluster is meant, where nobody names a file: as kubectl decides. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, afterEach, expect, it } from 'vitest'
import { readCredentials } from '../../../resources/kubeCredentials.ts'

const folder = mkdtempSync(join(tmpdir(), 'ipref-kubeconfig-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const before = process.env.KUBECONFIG
afterEach(() => {
  if (before === undefined) delete process.env.KUBECONFIG
  else process.env.KUBECONFIG = before
})

function kubeconfig(name: string, current: string | undefined): string {
  const file = join(folder, `${name}.yaml`)
  writeFileSync(
    file,
    `apiVersion: v1
kind: Config
clusters: [{name: ${name}, cluster: {server: "https://${name}.example:6443"}}]
users: [{name: ${name}, user: {token: t}}]
contexts: [{name: ${name}, context: {cluster: ${name}, user: ${name}}}]
${current === undefined ? '' : `current-context: ${current}\n`}`,
  )
  return file
}

it.each([
  ['the first file that says so', ['east', 'west'], 'east'],
  ['a file that says so behind one that does not', [undefined, 'west'], 'west'],
  ['a context of another file', ['west', 'east'], 'west'],
])('of several files, the current context is that of %s', async (_what, [ofEast, ofWest], expected) => {
  process.env.KUBECONFIG = [kubeconfig('east', ofEast), kubeconfig('west', ofWest)].join(delimiter)
  expect((await readCredentials({})).url).toBe(`https://${expected}.example:6443`)
})
