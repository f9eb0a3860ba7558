/** Files that are made from others agree with them. */
import { expect, it } from 'vitest'
import { renderChecksumBytes } from '../../gateway/sys/buildChecksum.ts'
import { read } from './files.ts'

it('the checksum in use is the one in checksum.wat (npm run build:checksum)', async () => {
  expect(await renderChecksumBytes()).toBe(read('gateway/sys/checksumBytes.ts'))
})

it('the lock file names no registry', () => {
  expect(read('package-lock.json')).not.toContain('"resolved"')
})

it('Node is the same on all architectures', () => {
  const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, { version: string }> }
  const ofNode = Object.entries(packages).filter(([name]) => name.startsWith('node_modules/node-linux-'))
  expect(ofNode.length).toBe(2)
  expect(new Set(ofNode.map(([, { version }]) => version)).size).toBe(1)
})
