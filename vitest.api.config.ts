/** Tests that need a real API server (test/support/apiServer.ts), and those of the chart, of which some do: one is started for the run, or they count as skipped, with the reason. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/{api,chart}/**/*.test.ts'],
    globalSetup: ['test/support/apiServerSetup.ts'],
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 180_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
    passWithNoTests: false,
  },
})
