/**
 * Is the server of KUBECONFIG one that tests may use? They install CRDs and ClusterRoles, and make and delete namespaces: in a cluster that others work with
 * that is no test but damage, and KUBECONFIG is often set for other reasons. So one that is not on this machine needs a word.
 */
import { readFileSync } from 'node:fs'
import { isLoopback, parseAddress } from '../../ipref/address.ts'
import { readYaml } from '../../runtime/yaml.ts'

export const ALLOW = 'IPREF_TEST_KUBECONFIG_OK'

interface Kubeconfig {
  'current-context'?: string
  contexts?: { name: string; context: { cluster: string } }[]
  clusters?: { name: string; cluster: { server: string } }[]
}

/** Why it may not be used; undefined: it may. */
export function refusalOfGiven(kubeconfig: string, env: NodeJS.ProcessEnv = process.env): string | undefined {
  if (env[ALLOW] === '1') return undefined
  const server = serverOf(kubeconfig)
  if (typeof server === 'string')
    return `KUBECONFIG: ${server}; unset it for a server of our own, or set ${ALLOW}=1 if tests may use that one`
  if (isOnThisMachine(server.hostname)) return undefined
  return `KUBECONFIG names ${server.origin}, which is not on this machine, and tests install and delete there; ${ALLOW}=1 allows it`
}

function serverOf(path: string): URL | string {
  try {
    const config = readYaml(readFileSync(path, 'utf8'))[0]?.value as Kubeconfig | undefined
    const context = config?.contexts?.find(({ name }) => name === config['current-context'])
    const cluster = config?.clusters?.find(({ name }) => name === context?.context.cluster)
    return cluster ? new URL(cluster.cluster.server) : `${path} names no server`
  } catch (error) {
    return (error as Error).message
  }
}

function isOnThisMachine(hostname: string): boolean {
  const address = parseAddress(hostname.replace(/^\[|\]$/g, ''))
  return hostname === 'localhost' || (address !== undefined && isLoopback(address))
}
