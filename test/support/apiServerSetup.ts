/** One API server for a run of vitest: started before the first file, ended after the last. */
import { isMissing, shareApiServer, startApiServer } from './apiServer.ts'

export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  const server = await startApiServer()
  shareApiServer(server)
  if (isMissing(server)) {
    process.stdout.write(`skipped: all that needs an API server: ${server.missing}\n`)
    return undefined
  }
  return () => server.stop()
}
