use wasmgate_sdk::serde_json::{Value, json};
use wasmgate_sdk::testing::{Host, Outcome, Request};

use super::*;

const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";

/// Of people, of apps and of those that visit on a person's behalf.
const WELCOME: [&str; 40] = [
    CHROME,
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 OPR/110.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
    "Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/125.0.6422.80 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 13; SM-S901B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; U; Android 12; en-US; Redmi Note 9 Pro) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.58 UCBrowser/13.4.0.1306 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
    "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0)",
    "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10",
    "Mozilla/5.0 (PlayStation; PlayStation 5/8.20) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.4 Safari/605.1.15",
    "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/6.0 TV Safari/537.36",
    "Lynx/2.8.9rel.1 libwww-FM/2.14 SSL-MM/1.4.1 GNUTLS/3.6.12",
    "okhttp/4.12.0",
    "MyApp/3.1 CFNetwork/1494.0.7 Darwin/23.4.0",
    "Dart/3.4 (dart:io)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Twitterbot/1.0",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "WhatsApp/2.23.20.0",
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
];

const UNWELCOME: [&str; 52] = [
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    "Mozilla/5.0 (compatible; MJ12bot/v1.4.8; http://mj12bot.com/)",
    "Mozilla/5.0 (compatible; DotBot/1.2; +https://opensiteexplorer.org/dotbot; help@moz.com)",
    "Mozilla/5.0 (compatible; BLEXBot/1.0; +http://webmeup-crawler.com/)",
    "Mozilla/5.0 (compatible; DataForSeoBot/1.0; +https://dataforseo.com/dataforseo-bot)",
    "serpstatbot/2.1 (advanced backlink tracking bot; https://serpstatbot.com/; abuse@serpstatbot.com)",
    "Mozilla/5.0 (compatible; SEOkicks; +https://www.seokicks.de/robot.html)",
    "Screaming Frog SEO Spider/20.1",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_10_1) AppleWebKit/600.2.5 (KHTML, like Gecko) Version/8.0.2 Safari/600.2.5 (Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "Mozilla/5.0 (compatible; ImagesiftBot; +imagesift.com)",
    "Mozilla/5.0 (Windows; U; Windows NT 5.1; en-US; rv:1.9.1.2) Gecko/20090729 Firefox/3.5.2 (.NET CLR 3.5.30729; Diffbot/0.1; +http://www.diffbot.com)",
    "cohere-ai",
    "Scrapy/2.11.2 (+https://scrapy.org)",
    "Mozilla/4.5 (compatible; HTTrack 3.0x; Windows 98)",
    "colly - https://github.com/gocolly/colly/v2",
    "Mozilla/5.0 (compatible; heritrix/3.4.0 +http://archive.org)",
    "MyNutch/Nutch-1.19",
    "python-requests/2.32.3",
    "Python-urllib/3.12",
    "Python/3.12 aiohttp/3.9.5",
    "python-httpx/0.27.0",
    "curl/8.7.1",
    "CURL/7.81.0",
    "Wget/1.21.4",
    "Go-http-client/1.1",
    "Java/17.0.11",
    "Apache-HttpClient/4.5.14 (Java/11.0.23)",
    "libwww-perl/6.76",
    "GuzzleHttp/7",
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
    "axios/1.7.2",
    "got (https://github.com/sindresorhus/got)",
    "PostmanRuntime/7.39.0",
    "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.22621.2506",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1",
    "sqlmap/1.8.5#stable (https://sqlmap.org)",
    "Mozilla/5.00 (Nikto/2.5.0) (Evasions:None) (Test:000001)",
    "masscan/1.3 (https://github.com/robertdavidgraham/masscan)",
    "Mozilla/5.0 zgrab/0.x",
    "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)",
    "Nuclei - Open-source project (github.com/projectdiscovery/nuclei)",
    "WPScan v3.8.25 (https://wpscan.com/wordpress-security-scanner)",
    "gobuster/3.6",
    "Fuzz Faster U Fool v2.1.0-dev",
    "Mozilla/5.0 (compatible; CensysInspect/1.1; +https://about.censys.io/)",
];

fn send(config: Value, request: Request) -> Outcome {
    Host::new().load::<BotDetection>(&config.to_string()).unwrap().send(request)
}

fn from(agent: impl AsRef<[u8]>) -> Request {
    Request::get("/").header("User-Agent", agent)
}

fn passes(config: Value, agent: &str) -> bool {
    send(config, from(agent)).sent
}

fn refused(config: Value) -> String {
    Host::new().load::<BotDetection>(&config.to_string()).err().unwrap().to_string()
}

#[test]
fn the_builtin_list_lets_people_through() {
    let plugin = Host::new().load::<BotDetection>("null").unwrap();
    for agent in WELCOME {
        assert!(plugin.send(from(agent)).sent, "{agent}");
    }
}

#[test]
fn the_builtin_list_denies_bots() {
    let plugin = Host::new().load::<BotDetection>("null").unwrap();
    for agent in UNWELCOME {
        let outcome = plugin.send(from(agent));
        assert!(!outcome.sent, "{agent}");
        let answer = outcome.answer.unwrap();
        assert_eq!((answer.status, answer.body, answer.headers.len()), (403, None, 0));
        assert_eq!(answer.code.as_deref(), Some("bot_denied"));
        assert_eq!(answer.detail.as_deref(), Some("Access denied"));
    }
}

#[test]
fn every_builtin_token_is_found_as_it_stands() {
    let plugin = Host::new().load::<BotDetection>("null").unwrap();
    for token in
        builtin::GROUPS.iter().flat_map(|group| group.split('|')).map(|token| token.replace('\\', ""))
    {
        assert!(!plugin.send(from(&token)).sent, "{token}");
        assert!(!plugin.send(from(format!("Mozilla/5.0 ({token})").to_uppercase())).sent, "{token}");
        assert!(plugin.send(from(format!("x{token}"))).sent, "x{token}");
    }
}

#[test]
fn the_builtin_list_can_be_switched_off() {
    assert!(passes(json!({"builtin": false}), "curl/8.7.1"));
}

#[test]
fn allow_goes_before_deny_and_deny_before_builtin() {
    let config = || json!({"allow": ["^curl/8[.]"], "deny": ["curl", "chrome/12[0-9]"]});
    assert!(passes(config(), "curl/8.7.1"));
    assert!(!passes(config(), "curl/7.81.0"));
    assert!(!passes(config(), CHROME));
    assert!(passes(config(), "okhttp/4.12.0"));
    assert!(!passes(config(), "Wget/1.21.4"));
    assert!(passes(json!({"allow": ["wget"]}), "Wget/1.21.4"));
}

#[test]
fn own_patterns_match_in_any_case_and_anywhere() {
    let config = || json!({"builtin": false, "deny": ["evil(bot|spider)"]});
    assert!(!passes(config(), "Mozilla/5.0 (compatible; EvilBOT/1.0)"));
    assert!(!passes(config(), "xevilspiderx"));
    assert!(passes(config(), "evil"));
}

#[test]
fn a_missing_agent_passes_unless_denied() {
    for request in [|| Request::get("/"), || from("")] {
        assert!(send(json!({"deny": [".*"]}), request()).sent);
        let outcome = send(json!({"missing": "deny", "allow": [".*"]}), request());
        assert_eq!((outcome.sent, outcome.code.as_deref()), (false, Some("bot_denied")));
    }
}

#[test]
fn two_agents_are_a_bad_request() {
    let outcome = send(json!({"allow": ["."]}), from(CHROME).header("user-agent", CHROME));
    assert!(!outcome.sent);
    let answer = outcome.answer.unwrap();
    assert_eq!((answer.status, answer.code.as_deref()), (400, Some("bad_request")));
    assert_eq!(answer.detail.as_deref(), Some("Only one User-Agent header allowed"));
}

#[test]
fn an_agent_that_is_not_text_is_searched_too() {
    assert!(!send(json!(null), from(b"\xff curl/8.7.1")).sent);
    assert!(send(json!(null), from(b"\xff\xfe")).sent);
}

#[test]
fn the_status_can_be_chosen() {
    let outcome = send(json!({"status": 404}), from("curl/8.7.1"));
    assert_eq!((outcome.response().status(), outcome.code.as_deref()), (404, Some("bot_denied")));
}

#[test]
fn mistakes_name_the_key() {
    let error = refused(json!({"deny": ["fine", "(", "["]}));
    assert!(error.starts_with("deny[1]: regex parse error"), "{error}");
    let error = refused(json!({"allow": ["x{99999}{99999}"]}));
    assert!(error.starts_with("allow[0]: "), "{error}");
    let everything = "is empty, which is found in every User-Agent";
    assert_eq!(refused(json!({"deny": ["fine", ""]})), format!("deny[1]: {everything}"));
    assert_eq!(refused(json!({"allow": [""]})), format!("allow[0]: {everything}"));
    assert_eq!(refused(json!({"status": 200})), "status: must be 400 to 599");
    assert_eq!(refused(json!({"status": 600})), "status: must be 400 to 599");
    assert!(refused(json!({"missing": "drop"})).starts_with("missing: unknown variant `drop`"));
    assert!(refused(json!({"blacklist": []})).contains("unknown field `blacklist`"));
}
