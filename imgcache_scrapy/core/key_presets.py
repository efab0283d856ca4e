"""Presets: the shapes of the URLs of each provider, by the names that settings use.

A preset leaves out of the key what signs, expires or routes a URL, and nothing that may select
another picture. It applies only to the complete shape of its provider: all its marks, and its
hosts unless the marks are certain anywhere. A single parameter such as `s`, `token` or `v` means
something else on every host, so a name alone is never enough.
"""

import re

from imgcache_scrapy.core.key_shapes import Pattern, Shape

_ANY = re.compile(r".+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER = re.compile(r"\d+")
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
# The value of an Akamai token ends with its signature; "=" may be escaped.
_AKAMAI = re.compile(r".*~hmac(?:=|%3D)[^~]+")
_AKAMAI_NAMES = ("hdnts", "hdnea", "hdntl", "__token__")
# A token that contains the start of another one is in no provider's shape. Without this condition
# the search would take quadratic time.
_AKAMAI_SEGMENT = re.compile(
    r"()/hdn(?:ts|ea|tl)=(?:(?!/hdn(?:ts|ea|tl)=).)*?~hmac=[0-9A-Fa-f]++(?=/.)"
)
_BUNNY_SEGMENT = re.compile(r"^()/bcdn_token=[^/&]+&expires=\d+(?:&[^/]*)?(?=/.)")
_BUNNY_NAMES = frozenset({"token", "expires", "token_path", "token_ignore_params"})


def _marks(*names: str) -> dict[str, Pattern]:
    return dict.fromkeys(names, _ANY)


def _named(prefix: str, names: str) -> frozenset[str]:
    return frozenset(prefix + name for name in names.split())


_DEFAULT: dict[str, tuple[Shape, ...]] = {
    "s3": (
        Shape(
            marks=_marks("X-Amz-Signature", "X-Amz-Credential"),
            names=_named(
                "X-Amz-",
                "Algorithm Credential Date Expires SignedHeaders Signature Security-Token"
                " Content-Sha256",
            )
            | _named(
                "response-",
                "cache-control content-disposition content-encoding content-language"
                " content-type expires",
            ),
            parameters=frozenset({"x-id=GetObject", "x-amz-checksum-mode=ENABLED"}),
        ),
        Shape(
            marks=_marks("AWSAccessKeyId", "Signature", "Expires"),
            names=_named("", "AWSAccessKeyId Signature Expires x-amz-security-token"),
        ),
    ),
    "cloudfront": (
        Shape(
            marks=_marks("Key-Pair-Id", "Signature"),
            one_of=("Expires", "Policy"),
            names=_named("", "Key-Pair-Id Signature Expires Policy Hash-Algorithm"),
        ),
    ),
    "gcs": (
        Shape(
            marks=_marks("X-Goog-Signature"),
            one_of=("X-Goog-Credential", "X-Goog-Algorithm", "X-Goog-Date", "X-Goog-Expires"),
            names=_named("X-Goog-", "Algorithm Credential Date Expires SignedHeaders Signature"),
        ),
        Shape(
            marks=_marks("GoogleAccessId", "Signature", "Expires"),
            names=_named("", "GoogleAccessId Signature Expires"),
        ),
    ),
    "firebase": (Shape(hosts=("firebasestorage.googleapis.com",), names=frozenset({"token"})),),
    "azure": (
        Shape(
            marks={"sig": _ANY, "sv": _DATE},
            one_of=("se", "si", "sp", "sr", "ss"),
            names=_named(
                "",
                "sv ss srt sr sp st se sip spr sig si skoid sktid skt ske sks skv"
                " rscc rscd rsce rscl rsct saoid suoid scid sdd ses",
            ),
        ),
    ),
    "oss": (
        Shape(
            marks=_marks("OSSAccessKeyId", "Signature"),
            names=_named("", "OSSAccessKeyId Signature Expires security-token"),
        ),
    ),
    "cos": (
        Shape(
            marks=_marks("q-signature"),
            one_of=("q-ak", "q-sign-algorithm", "q-sign-time", "q-key-time"),
            names=_named(
                "q-", "sign-algorithm ak sign-time key-time header-list url-param-list signature"
            )
            | {"x-cos-security-token"},
        ),
    ),
    "akamai": (
        *(Shape(marks={name: _AKAMAI}, names=frozenset({name})) for name in _AKAMAI_NAMES),
        Shape(segment=_AKAMAI_SEGMENT, marker="~hmac="),
    ),
    "bunny": (
        Shape(hosts=("*.b-cdn.net",), marks=_marks("token", "expires"), names=_BUNNY_NAMES),
        Shape(hosts=("*.b-cdn.net",), segment=_BUNNY_SEGMENT),
    ),
    "imgix": (
        Shape(
            hosts=("*.imgix.net",),
            marks={"s": re.compile(r"[0-9A-Fa-f]{32}")},
            names=_named("", "s expires ixlib ixid"),
        ),
    ),
    "cloudinary": (
        Shape(
            hosts=("res.cloudinary.com",),
            segment=re.compile(r"^(/[^/]+/[a-z]+(?:/[a-z]+)?)/s--[\w-]+--(?=/.)"),
        ),
    ),
    "facebook": (
        Shape(
            hosts=("*.fbcdn.net", "*.cdninstagram.com"),
            names=_named("", "oh oe ccb efg edm gid ig_cache_key"),
            prefixes=("_nc_",),
            mirrors=(
                re.compile(r"scontent[-.](?:.*\.)?(fbcdn\.net|cdninstagram\.com)"),
                r"scontent.\1",
            ),
        ),
    ),
    "tiktok": (
        Shape(
            hosts=("*.tiktokcdn.com", "*.tiktokcdn-us.com", "*.tiktokcdn-eu.com"),
            marks=_marks("x-signature", "x-expires"),
            names=_named(
                "",
                "x-expires x-signature lk3s dr idc nonce ps refresh_token s sc shcp shp t",
            ),
            mirrors=(re.compile(r"p(?:1[6-9]|[2-6]\d|7[0-7])-(.+)"), r"p16-\1"),
        ),
    ),
    "discord": (
        Shape(
            hosts=("cdn.discordapp.com", "media.discordapp.net"),
            marks=_marks("ex", "is", "hm"),
            names=_named("", "ex is hm backend"),
            # Discord writes `&` or `&=&` after its signature.
            parameters=frozenset({"", "="}),
        ),
    ),
    "reddit": (
        Shape(
            hosts=("preview.redd.it", "external-preview.redd.it"),
            marks={"s": re.compile(r"[0-9A-Fa-f]{40}")},
            names=frozenset({"s"}),
        ),
    ),
    "wikimedia": (Shape(hosts=("upload.wikimedia.org",), prefixes=("utm_",)),),
    "photon": (Shape(hosts=("i?.wp.com",), mirrors=(re.compile(r"i[0-3]\.wp\.com"), "i0.wp.com")),),
    "google": (
        Shape(
            hosts=("lh?.googleusercontent.com", "lh?.ggpht.com"),
            mirrors=(re.compile(r"lh[3-6]\.(googleusercontent|ggpht)\.com"), r"lh3.\1.com"),
        ),
    ),
    "youtube": (Shape(hosts=("i.ytimg.com",), names=frozenset({"rs"})),),
    "vk": (
        Shape(
            hosts=("sun*.userapi.com",),
            names=frozenset({"sign"}),
            mirrors=(re.compile(r"sun\d+-.+\.userapi\.com"), "sun9-1.userapi.com"),
        ),
    ),
    "weibo": (
        Shape(
            hosts=("*.sinaimg.cn",),
            mirrors=(re.compile(r"(?:ws|wx|ww|tvax?)\d\.sinaimg\.cn"), "wx1.sinaimg.cn"),
        ),
    ),
    "deviantart": (
        Shape(
            hosts=("images-wixmp-*.wixmp.com",), marks={"token": _JWT}, names=frozenset({"token"})
        ),
    ),
    "linkedin": (
        Shape(
            hosts=("media.licdn.com",),
            marks={"e": _ANY, "v": re.compile("beta"), "t": _ANY},
            names=frozenset({"e", "v", "t"}),
        ),
    ),
    "github": (
        Shape(hosts=("private-user-images.githubusercontent.com",), names=frozenset({"jwt"})),
    ),
    "supabase": (
        Shape(path="/storage/v1/object/sign/", marks=_marks("token"), names=frozenset({"token"})),
    ),
    "xiaohongshu": (
        Shape(hosts=("*.xhscdn.com",), segment=re.compile(r"^()/\d{12}/[0-9A-Fa-f]{32}(?=/.)")),
    ),
    "rightmove": (Shape(hosts=("media.rightmove.co.uk",), segment=re.compile(r"^()/dir(?=/.)")),),
}
_OPT_IN: dict[str, tuple[Shape, ...]] = {
    "utm": (Shape(names=_named("", "gclid fbclid msclkid"), prefixes=("utm_",)),),
    "version": (Shape(names=_named("", "v ver version")),),
    "bunny-any-host": (
        Shape(marks=_marks("token", "expires"), names=_BUNNY_NAMES),
        Shape(segment=_BUNNY_SEGMENT, marker="/bcdn_token="),
    ),
    "cloudinary-version": (
        Shape(
            hosts=("res.cloudinary.com",),
            segment=re.compile(
                r"^(/[^/]+/(?:image|video)/(?:upload|private|authenticated)(?:/[^/]+)*?)/v\d+(?=/.)"
            ),
        ),
    ),
    "shopify-version": (
        Shape(hosts=("cdn.shopify.com",), marks={"v": _NUMBER}, names=frozenset({"v"})),
        Shape(path="/cdn/shop/", marks={"v": _NUMBER}, names=frozenset({"v"})),
    ),
}

PRESETS = _DEFAULT | _OPT_IN
"""The shapes of each preset."""
DEFAULT_PRESETS = tuple(_DEFAULT)
"""The presets that are on by default: their marks or hosts are certain."""
ALL_PRESETS = tuple(PRESETS)
"""All presets, those that are on by default first."""
