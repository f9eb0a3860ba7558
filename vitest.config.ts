/** Tests without networks: units, properties, contracts, and the rules of the repository itself. The networks are in test/netns. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/{unit,property,contract,durability,repo,dns}/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // generous: machines are busy; what is waited for ends as soon as it is there
    testTimeout: 180_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
    // prints the reason of each test that a machine cannot run
    passWithNoTests: false,
  },
})
