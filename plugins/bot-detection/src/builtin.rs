//! The built-in deny list: our own short list of tokens that programs put into their User-Agent.
//!
//! A token names one program and matches at the start of a word, in any case; words such as "bot"
//! are not in it, because telephones have them in their names. Let through, because they visit on a
//! person's behalf: search engines, also those of AI assistants, link previews and monitors. Each
//! group is the alternatives of a regular expression.

/// Programs that copy whole sites.
const SCRAPERS: &str = "\
    colly|crawler4j|emailcollector|emailsiphon|heritrix|httrack|nutch|offline explorer|scrapy|\
    sitesucker|teleport pro|webcopier|webreaper|webzip";

/// Crawlers that collect text and pictures to train models with, or to sell.
const AI_CRAWLERS: &str = "\
    ai2bot|amazonbot|anthropic-ai|bytespider|ccbot|claude-web|claudebot|cohere-ai|diffbot|\
    friendlycrawler|gptbot|imagesiftbot|img2dataset|meta-externalagent|omgili|pangubot|timpibot|webzio";

/// Crawlers that study links and prices for their customers.
const SEO_CRAWLERS: &str = "\
    ahrefsbot|ahrefssiteaudit|barkrowler|blexbot|dataforseobot|dotbot|grapeshot|linkfluence|megaindex|\
    mj12bot|rogerbot|screaming frog|semrushbot|seokicks|serpstatbot|siteauditbot|sistrix|turnitin|\
    velenpublicwebcrawler|xovibot";

/// Scripts and libraries under the names they have unless their user gives another. Not okhttp,
/// CFNetwork and Dart, which telephones' apps are made with.
const SCRIPTS: &str = "\
    aiohttp|apache-httpclient/|aria2|axios/|curl/|faraday|go-http-client|got \\(|guzzlehttp|\
    http_request|httpie|httpx|insomnia/|jakarta commons|java/|libcurl|libwww-perl|lwp|mechanize|\
    node-fetch|php/|postmanruntime|powershell/|pycurl|python-requests|python-urllib|python/|reqwest|\
    restsharp|undici|wget|windowspowershell|winhttp";

/// Browsers without a screen.
const HEADLESS: &str = "headlesschrome|phantomjs|playwright|puppeteer|selenium|slimerjs";

/// Searchers for weaknesses, and surveys of the whole internet.
const SCANNERS: &str = "\
    acunetix|arachni|censysinspect|commix|dirbuster|dirsearch|expanse|feroxbuster|ffuf|fuzz faster|\
    gobuster|havij|internet-measurement|internetmeasurement|jaeles|joomscan|l9explore|l9tcpid|masscan|\
    morfeus|nessus|netsparker|netsystemsresearch|nikto|nmap|nuclei|openvas|shodan|sqlmap|w3af|wfuzz|\
    whatweb|wpscan|zgrab|zmeu";

/// All of them.
pub const GROUPS: [&str; 6] = [SCRAPERS, AI_CRAWLERS, SEO_CRAWLERS, SCRIPTS, HEADLESS, SCANNERS];

/// All of them as one regular expression.
pub fn pattern() -> String {
    format!(r"\b(?:{})", GROUPS.join("|"))
}
