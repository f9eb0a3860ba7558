/**
 * Where the API server is and who we are, as kubeconfig files, service accounts, login programs and client certificates say it: the one door to
 * @kubernetes/client-node.
 *
 *   configuration: a file that is named, else $KUBECONFIG, else ~/.kube/config, else the service account of the pod
 *
 * The package takes 85 MB of memory that are not given back, and its answer is a few texts: kubeAccess.ts runs this file as a program of its own, which prints
 * them as JSON and ends. Only connections through a proxy need the package's own agents, and have it in the process.
 */
import type { Agent } from 'node:http'
import type { RequestOptions } from 'node:https'
import { KubeConfig } from '@kubernetes/client-node'

export interface CredentialSettings {
  /** path; absent: see above */
  kubeconfig?: string
  /** of the kubeconfig; absent: its current one */
  context?: string
  /** In the pod of a service account; its files are below this folder. */
  serviceAccountRoot?: string
}

export interface KubeCredentials {
  url: string
  headers: Record<string, string>
  /** for `https.Agent`; buffers in base64, as `{base64}` */
  tls: Record<string, unknown>
  /** of a service account: the file is renewed now and then */
  tokenFile?: string
  isProxied: boolean
}

export type CredentialAnswer = KubeCredentials | { problem: string }

const tlsNames = ['ca', 'cert', 'key', 'pfx', 'passphrase', 'rejectUnauthorized', 'servername'] as const

export async function readCredentials(settings: CredentialSettings): Promise<KubeCredentials & { agent: Agent }> {
  const config = readConfig(settings)
  const cluster = config.getCurrentCluster()!
  const options: RequestOptions = {}
  await config.applyToHTTPSOptions(options)
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(options.headers ?? {})) headers[name.toLowerCase()] = String(value).trim()
  if (options.auth) headers.authorization = `Basic ${Buffer.from(options.auth).toString('base64')}`
  const tls: Record<string, unknown> = {}
  for (const name of tlsNames) {
    const value = options[name]
    if (value !== undefined) tls[name] = Buffer.isBuffer(value) ? { base64: value.toString('base64') } : value
  }
  const tokenFile = (config.getCurrentUser()?.authProvider?.config as { tokenFile?: string } | undefined)?.tokenFile
  return {
    url: cluster.server.replace(/\/+$/, ''),
    headers,
    tls,
    ...(tokenFile !== undefined && { tokenFile }),
    isProxied: Boolean(cluster.proxyUrl),
    agent: options.agent as Agent,
  }
}

function readConfig({ kubeconfig, context, serviceAccountRoot }: CredentialSettings): KubeConfig {
  let config = new KubeConfig()
  if (kubeconfig !== undefined) config.loadFromFile(kubeconfig)
  else if (serviceAccountRoot !== undefined) config.loadFromCluster(serviceAccountRoot)
  else config = defaultConfig()
  if (context !== undefined) config.setCurrentContext(context)
  const cluster = config.getCurrentCluster()
  const where = kubeconfig ?? 'the Kubernetes configuration'
  if (!cluster)
    throw new Error(`${where}: no context ${config.getCurrentContext() ?? 'is current'}, or no cluster of it`)
  // what the package falls back to where nothing is configured
  if (kubeconfig === undefined && cluster.server === 'http://localhost:8080')
    throw new Error(
      'no API server: no kubeconfig is named, KUBECONFIG is not set, and this is no pod with a service account',
    )
  return config
}

/** Of several files in $KUBECONFIG the first that says which context is current decides, as for kubectl; the package takes the last. */
function defaultConfig(): KubeConfig {
  const config = new KubeConfig()
  config.loadFromDefault(undefined, true)
  if (!config.getCurrentContext()) config.loadFromDefault()
  return config
}

if (import.meta.main) {
  let answer: CredentialAnswer
  try {
    const { agent: _kept, ...credentials } = await readCredentials(JSON.parse(process.argv[2]!) as CredentialSettings)
    answer = credentials
  } catch (error) {
    answer = { problem: (error as Error).message }
  }
  process.stdout.write(JSON.stringify(answer), () => process.exit(0))
}
