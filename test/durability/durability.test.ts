import { join } from 'node:path'
import { expect, it } from 'vitest'
import { killAgainAndAgain } from './killing.ts'

const NODE = join(import.meta.dirname, '../../node_modules/.bin/node')
const KILLS = 200

it(`${KILLS} kills under load lose no acknowledged mapping and give none twice`, { timeout: 1_800_000 }, async () => {
  const report = await killAgainAndAgain(KILLS, NODE)
  expect(report.lost).toEqual([])
  expect(report.twice).toEqual([])
  expect(report.acknowledged).toBeGreaterThan(KILLS * 10)
})
