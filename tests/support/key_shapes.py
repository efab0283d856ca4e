"""URLs in the shapes of each provider: which must share a key, and which must not.

In a template, `<hex32>` is 32 random hex digits, `<num>` a number, `<word>` letters and digits, and
`<day>` eight digits: what is new in each crawl. No URL is a real one.
"""

import random
import re
from typing import NamedTuple


class Provider(NamedTuple):
    """The URLs of one provider.

    Attributes:
        groups: the templates of one picture in each group: all its URLs share a key, which no
            other group has.
        apart: templates that only look signed: each filling has a key of its own.
    """

    groups: list[list[str]]
    apart: list[str]


def filled(template, seed):
    """Return the URL of a template, as the crawl with this number sees it."""
    source = random.Random(f"{seed} {template}")

    def fill(match):
        kind, size = match[1], int(match[2] or 0)
        if kind == "hex":
            return "".join(source.choices("0123456789abcdef", k=size))
        if kind == "num":
            return str(source.randrange(10**9, 10**10))
        if kind == "day":
            return str(source.randrange(10**7, 10**8))
        return "".join(source.choices("abcXYZ0123456789", k=size or 20))

    return re.sub(r"<(hex|num|day|word)(\d*)>", fill, template)


def signed(base, sign, keeps, incomplete):
    """Return a provider that signs URLs by parameters.

    Args:
        base: the URL of a picture without its parameters.
        sign: all parameters that sign.
        keeps: parameters that select other pictures.
        incomplete: parameters that are no complete signature.
    """
    scheme, host, path = re.fullmatch(r"(https)://([^/]+)(/.+)", base).groups()
    backwards = "&".join(reversed(sign.split("&")))
    other_paths = [f"{base}2", f"{base}/", f"http://{host}{path}", f"{base}%2F", f"{base}%20"]
    return Provider(
        groups=[
            [
                f"{base}?{sign}",
                f"{base}?{backwards}",
                f"{base}?{sign}#top",
                f"{scheme}://{host.upper()}:443{path}?{sign}",
            ],
            *([f"{base}?{keep}&{sign}", f"{base}?{backwards}&{keep}"] for keep in keeps),
            *([f"{other}?{sign}"] for other in other_paths),
        ],
        apart=[f"{base}?{part}" for part in incomplete],
    )


def without_each(sign, *names):
    """Yield the parameters of a signature without one of these names, and with an empty value."""
    parameters = sign.split("&")
    for name in names:
        (one,) = [each for each in parameters if each.startswith(f"{name}=")]
        left = [each for each in parameters if each != one]
        yield "&".join(left)
        yield "&".join([*left, f"{name}="])


S3 = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK<word>%2F<day>%2Feu%2Fs3%2Faws4_request"
    "&X-Amz-Date=<day>T000000Z&X-Amz-Expires=<num>&X-Amz-SignedHeaders=host"
    "&X-Amz-Security-Token=<word>%2B<word>&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
    "&response-content-type=image%2Fjpeg&x-id=GetObject&X-Amz-Signature=<hex64>"
)
S3_V2 = "AWSAccessKeyId=AK<word>&Expires=<num>&Signature=<word>%3D&x-amz-security-token=<word>"
CLOUDFRONT = "Expires=<num>&Signature=<word>~<word>-_&Key-Pair-Id=K<word>&Hash-Algorithm=SHA256"
POLICY = "Policy=<word>&Signature=<word>&Key-Pair-Id=K<word>"
GCS = (
    "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=me%40x.iam%2F<day>%2Fauto%2Fstorage"
    "&X-Goog-Date=<day>T000000Z&X-Goog-Expires=<num>&X-Goog-SignedHeaders=host"
    "&X-Goog-Signature=<hex64>"
)
GCS_V2 = "GoogleAccessId=me%40x.iam&Expires=<num>&Signature=<word>%2B<word>%3D"
AZURE = (
    "sv=2022-11-02&ss=b&srt=o&sr=b&sp=r&st=<day>&se=<day>&sip=1.2.3.4&spr=https&skoid=<hex32>"
    "&skt=<day>&sig=<word>%2F<word>%3D"
)
OSS = "OSSAccessKeyId=LT<word>&Expires=<num>&Signature=<word>%3D&security-token=<word>"
COS = (
    "q-sign-algorithm=sha1&q-ak=AK<word>&q-sign-time=<num>;<num>&q-key-time=<num>;<num>"
    "&q-header-list=host&q-url-param-list=&q-signature=<hex40>"
)
AKAMAI = "hdnts=st=<num>~exp=<num>~acl=/*~hmac=<hex64>"
BUNNY = "token=<word>&expires=<num>&token_path=%2Fa%2F&token_ignore_params=width"
TIKTOK = "x-expires=<num>&x-signature=<word>%3D&lk3s=<hex8>&s=<word>&t=<word>&shp=<word>&idc=my"
DISCORD = "ex=<hex8>&is=<hex8>&hm=<hex64>&backend=x"
LINKEDIN = "e=<num>&v=beta&t=<word>_<word>"
JWT = "token=<word>.<word>.<word>-_"
FACEBOOK = "_nc_cat=<num>&_nc_ohc=<word>&ccb=1-7&oh=00_<word>&oe=<hex8>&_nc_sid=<hex6>&efg=<word>"
SIZES = ["size=1", "size=2", "w=1&h=2", "color=red", "page=3", "x", "x=", "v=1"]


def _joined(*providers):
    groups = [group for each in providers for group in each.groups]
    return Provider(groups, [template for each in providers for template in each.apart])


SIGNED = {
    "s3": _joined(
        signed(
            "https://b.s3.amazonaws.com/a/1.jpg",
            S3,
            ["versionId=1", "versionId=2", "x-id=1", "response=1", "partNumber=1"],
            [*without_each(S3, "X-Amz-Signature", "X-Amz-Credential"), "Signature=<word>"],
        ),
        signed(
            "https://minio.example/b/v2.jpg",
            S3_V2,
            ["versionId=1", "versionId=2", "response-content-type=image%2Fpng"],
            without_each(S3_V2, "AWSAccessKeyId", "Signature", "Expires"),
        ),
    ),
    "cloudfront": _joined(
        signed(
            "https://d1.cloudfront.net/1.jpg",
            CLOUDFRONT,
            SIZES,
            [*without_each(CLOUDFRONT, "Key-Pair-Id", "Signature"), "Expires=<num>"],
        ),
        signed("https://img.example/1.jpg", POLICY, SIZES, ["Policy=<word>"]),
    ),
    "gcs": _joined(
        signed(
            "https://storage.googleapis.com/b/1.jpg",
            GCS,
            ["generation=1", "generation=2", "alt=media", "Expires=1"],
            [*without_each(GCS, "X-Goog-Signature"), "X-Goog-Signature=<hex64>"],
        ),
        signed(
            "https://img.example/v2.jpg",
            GCS_V2,
            ["generation=1", "generation=2"],
            without_each(GCS_V2, "GoogleAccessId", "Signature", "Expires"),
        ),
    ),
    "firebase": signed(
        "https://firebasestorage.googleapis.com/v0/b/x.appspot.com/o/a%2F1.jpg",
        "token=<hex32>",
        ["alt=media", "alt=json", "generation=1", "generation=2"],
        ["Token=<hex32>", "token2=<hex32>", "t=<hex32>"],
    ),
    "azure": signed(
        "https://x.blob.core.windows.net/c/1.jpg",
        AZURE,
        ["snapshot=1", "snapshot=2", "versionid=1", "versionid=2", "s=1", "size=1"],
        [*without_each(AZURE, "sv", "sig"), "sv=<num>&sig=<word>", "sp=<word>"],
    ),
    "oss": signed(
        "https://b.oss-cn-hangzhou.aliyuncs.com/1.jpg",
        OSS,
        [f"x-oss-process=image/resize,w_{width}" for width in (100, 200, 300)],
        without_each(OSS, "OSSAccessKeyId", "Signature"),
    ),
    "cos": signed(
        "https://b-1.cos.ap-guangzhou.myqcloud.com/1.jpg",
        COS,
        ["imageMogr2/thumbnail/100x", "imageView2/2/w/100", "imageView2/2/w/200", "q-size=1"],
        [*without_each(COS, "q-signature"), "q-signature=<hex40>", "q-ak=<word>"],
    ),
    "akamai": _joined(
        signed("https://img.example/1.jpg", AKAMAI, SIZES, ["hdnts=<num>", "hdnts=exp=<num>"]),
        *(
            signed(f"https://{name.strip('_')}.example/1.jpg", f"{name}={value}", SIZES[:2], [])
            for value in ["exp=<num>~acl=%2f*~hmac=<hex64>"]
            for name in ("hdnea", "hdntl", "__token__")
        ),
        Provider(
            [
                [
                    "https://path.example/hdnts=exp=<num>~acl=/*~hmac=<hex64>/a/1.jpg",
                    "https://path.example/hdnts=st=1~exp=<num>~acl=/a/*!/b/*~hmac=<hex64>/a/1.jpg",
                ],
                ["https://path.example/a/2.jpg", "https://path.example/a/hdntl=~hmac=<hex8>/2.jpg"],
                ["https://path.example/hdnts=exp=<num>~hmac=<hex64>/a/3.jpg?w=1"],
            ],
            [
                "https://path.example/hdnts=exp=<num>/a/1.jpg",
                "https://path.example/hdnts=exp=<num>~hmac=<hex8>",
                "https://path.example/exp=<num>~hmac=<hex8>/a/1.jpg",
                "https://path.example/hdnts=~hmac=<hex8>/hdnts=~hmac=<hex8>/a/1.jpg",
                "https://path.example/hdnts=exp=<num>~hmac=z<hex8>/a/1.jpg",
            ],
        ),
    ),
    "bunny": _joined(
        signed(
            "https://z.b-cdn.net/1.jpg",
            BUNNY,
            ["width=1", "width=2", "class=a"],
            without_each(BUNNY, "token", "expires"),
        ),
        Provider(
            [
                [
                    "https://z.b-cdn.net/bcdn_token=<word>&expires=<num>/a/1.jpg",
                    "https://z.b-cdn.net/bcdn_token=<word>&expires=<num>&token_path=%2Fa%2F/a/1.jpg",
                ]
            ],
            [
                "https://img.example/1.jpg?token=<word>&expires=<num>",
                "https://img.example/bcdn_token=<word>&expires=<num>/1.jpg",
                "https://z.b-cdn.net/a/bcdn_token=<word>&expires=<num>/1.jpg",
                "https://z.b-cdn.net/bcdn_token=<word>/1.jpg",
            ],
        ),
    ),
    "imgix": signed(
        "https://x.imgix.net/1.jpg",
        "s=<hex32>&expires=<num>&ixlib=rb-<num>",
        ["w=1", "w=2", "h=1", "fit=crop", "auto=format", "q=5", "fm=png", "crop=faces"],
        [
            "s=<hex8>",
            "s=<hex40>",
            "s=5&s=<hex32>",
            "s=<num>&expires=1",
            "expires=<num>",
            "ixlib=<num>",
        ],
    ),
    "tiktok": signed(
        "https://p16-sign-va.tiktokcdn.com/o/1~tplv-x:100:100.jpeg",
        TIKTOK,
        ["biz_tag=a", "biz_tag=b", "ss=1"],
        [*without_each(TIKTOK, "x-signature", "x-expires"), "s=<word>", "t=<word>"],
    ),
    "discord": signed(
        "https://media.discordapp.net/attachments/1/2/3.png",
        DISCORD,
        ["width=1&height=2", "width=2&height=2", "format=webp", "quality=lossless"],
        without_each(DISCORD, "ex", "is", "hm"),
    ),
    "reddit": signed(
        "https://preview.redd.it/1.jpg",
        "s=<hex40>",
        ["width=1", "width=2", "crop=smart", "auto=webp", "format=pjpg", "blur=40"],
        ["s=<hex32>", "s=<num>", "sig=<hex40>"],
    ),
    "wikimedia": signed(
        "https://upload.wikimedia.org/thumb/a/1.jpg/800px-1.jpg",
        "utm_source=<word>&utm_campaign=<word>&utm_content=<word>",
        ["lang=de", "lang=en", "page=1"],
        ["utm=<word>", "Utm_source=<word>", "source=<word>"],
    ),
    "facebook": signed(
        "https://scontent-fra3-1.xx.fbcdn.net/v/t39/1_n.jpg",
        FACEBOOK,
        ["stp=dst-jpg_s600x600", "stp=dst-jpg_p100x100", "nc=1", "_n=2"],
        ["nc_sid=<word>", "o=<word>", "tp=<word>"],
    ),
    "youtube": signed(
        "https://i.ytimg.com/vi/x/hq720.jpg",
        "rs=AOn4<word>",
        ["sqp=-oay1", "sqp=-oay2", "v=1"],
        ["r=<word>", "rss=<word>", "sqp=<word>"],
    ),
    "vk": signed(
        "https://sun9-12.userapi.com/impg/a/1.jpg",
        "sign=<hex32>",
        ["size=1x1&quality=95", "size=2x2&quality=95", "type=album", "cs=100x100", "crop=1,2"],
        ["sig=<hex32>", "u=<word>", "as=<word>"],
    ),
    "deviantart": signed(
        "https://images-wixmp-a1.wixmp.com/f/1.jpg/v1/fill/w_600,h_400/x.jpg",
        JWT,
        ["w=1", "w=2", "q=3"],
        ["token=<word>", "token=<word>.<word>", "Token=<word>.<word>.<word>"],
    ),
    "linkedin": signed(
        "https://media.licdn.com/dms/image/a/feedshare-shrink_800/0/1",
        LINKEDIN,
        ["w=1", "w=2"],
        [*without_each(LINKEDIN, "e", "v", "t"), "e=1&v=<word>&t=2"],
    ),
    "github": signed(
        "https://private-user-images.githubusercontent.com/1/2-3.png",
        "jwt=<word>.<word>.<word>",
        ["s=40", "s=80", "v=4"],
        ["token=<word>", "j=<word>", "JWT=<word>"],
    ),
    "supabase": signed(
        "https://x.supabase.co/storage/v1/object/sign/b/1.jpg",
        JWT,
        ["width=1", "width=2", "height=1", "resize=contain"],
        ["Token=<word>", "t=<word>", "jwt=<word>"],
    ),
}


def _pictures(*templates):
    return [[template] for template in templates]


MOVED = {
    "cloudinary": Provider(
        [
            [
                f"https://res.cloudinary.com/c/image/upload/s--<word8>--{rest}",
                f"https://RES.cloudinary.com/c/image/upload/s--<word32>--{rest}#x",
                f"https://res.cloudinary.com/c/image/upload{rest}",
            ]
            for rest in ("/w_1/v1/a.jpg", "/w_2/v1/a.jpg", "/w_1/v2/a.jpg", "/w_1/v1/b.jpg")
        ]
        + _pictures(
            "https://res.cloudinary.com/c/image/fetch/s--<word8>--/https://a.example/1.jpg"
        ),
        [
            "https://res.cloudinary.com/c/image/upload/s-<word8>-/a.jpg",
            "https://res.cloudinary.com/c/image/upload/w_1/s--<word8>--/a.jpg",
            "https://res.cloudinary.com/c/image/upload/s--<word8>--",
            "https://res.cloudinary.com/c/image/fetch/https://a.example/s--<word8>--/1.jpg",
            "https://img.example/c/image/upload/s--<word8>--/a.jpg",
            "https://res.cloudinary.com/c/image/upload/s--<word8>--/s--<word8>--/a.jpg",
            "https://res.cloudinary.com/c/image/upload/a.jpg?s=--<word8>--",
        ],
    ),
    "photon": Provider(
        [
            [f"https://i{number}.wp.com/a.example/1.jpg{query}" for number in range(4)]
            for query in ("", "?w=1", "?w=2", "?w=1&resize=2", "?resize=2&w=1", "?ssl=1")
        ],
        [
            f"https://{host}/a.example/1.jpg?w=<num>"
            for host in ("i4.wp.com", "s0.wp.com", "i0.wp.org", "i0.files.wordpress.com", "wp.com")
        ],
    ),
    "google": Provider(
        [
            [f"https://lh{number}.{domain}/{name}" for number in range(3, 7)]
            for domain in ("googleusercontent.com", "ggpht.com")
            for name in ("abc=w680-h510", "abc=w100", "abd=w680-h510")
        ],
        [
            f"https://{host}/abc=w<num>"
            for host in (
                "lh2.googleusercontent.com",
                "yt3.ggpht.com",
                "lh3.google.com",
                "lh7.x.com",
            )
        ],
    ),
    "weibo": Provider(
        [
            [f"https://{name}.sinaimg.cn/{path}" for name in ("ws1", "wx3", "ww4", "tva2", "tvax3")]
            for path in ("large/1.jpg", "orj360/1.jpg", "large/2.jpg", "large/1.jpg?w=1")
        ],
        [
            f"https://{host}/large/<num>.jpg"
            for host in ("n1.sinaimg.cn", "ww.sinaimg.cn", "ww1.sinaimg.com", "a.ww1.sinaimg.cn")
        ],
    ),
    "xiaohongshu": Provider(
        [
            [
                f"https://sns-webpic-qc.xhscdn.com/2025<day>/<hex32>/{rest}",
                f"https://SNS-webpic-qc.xhscdn.com/2025<day>/<hex32>/{rest}",
                f"https://sns-webpic-qc.xhscdn.com:443/2025<day>/<hex32>/{rest}#x",
                f"https://sns-webpic-qc.xhscdn.com/{rest}",
            ]
            for rest in ("1040g!nd_dft", "1040g!nd_prv", "1040h!nd_dft", "a/1040g!nd_dft")
        ],
        [
            "https://sns-webpic-qc.xhscdn.com/2025<day>/1040g",
            "https://sns-webpic-qc.xhscdn.com/<day>/<hex32>/1040g",
            "https://sns-webpic-qc.xhscdn.com/2025<day>/<hex8>/1040g",
            "https://sns-webpic-qc.xhscdn.com/a/2025<day>/<hex32>/1040g",
            "https://sns-webpic-qc.xhscdn.com/2025<day>/<hex32>/2025<day>/<hex32>/1040g",
            "https://img.example/2025<day>/<hex32>/1040g",
        ],
    ),
    "rightmove": Provider(
        [
            [
                f"https://media.rightmove.co.uk/{rest}",
                f"https://media.rightmove.co.uk/dir/{rest}",
                f"https://MEDIA.rightmove.co.uk/dir/{rest}#x",
                f"https://media.rightmove.co.uk:443/dir/{rest}",
            ]
            for rest in ("a/1_max_476x317.jpeg", "a/1_max_10x10.jpeg", "b/1.jpeg", "DIR/1.jpeg")
        ],
        [
            f"https://{place}/<num>.jpeg"
            for place in (
                "media.rightmove.co.uk/a/dir",
                "media.rightmove.co.uk/dirs",
                "media.rightmove.co.uk/dir/dir",
                "media.example.co.uk/dir",
            )
        ],
    ),
}

PROVIDERS = SIGNED | MOVED
