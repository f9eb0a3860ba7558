/** Tests without networks: units, properties, contracts, and the rules of the repository itself. The networks are in test/netns. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/{unit,property,contract,durability,repo,dns}/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // prints the reason of each test that a machine cannot run
    passWithNoTests: false,
  },
})
