"""How users ask for what the AWS CLI does: services and things by their everyday names, and requests varied by rules.

The rules vary the verb, the article, the names of things, whether the service is named and how, where the values stand,
and "please" or "how do I". Everything is drawn from a seeded generator, so the same rows come out every time.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader

from scripts.tasks.aws_model import RENAMED

# what users say instead of, or besides, the names in the service models
SAID = {
    "apigateway": ["API Gateway"],
    "apigatewayv2": ["API Gateway v2", "API Gateway"],
    "ce": ["Cost Explorer"],
    "cognito-idp": ["Cognito"],
    "deploy": ["CodeDeploy"],
    "efs": ["EFS"],
    "elb": ["classic ELB", "ELB"],
    "elbv2": ["ELB", "ALB"],
    "events": ["EventBridge", "CloudWatch Events"],
    "lambda": ["Lambda"],
    "logs": ["CloudWatch Logs", "CloudWatch"],
    "organizations": ["Organizations"],
    "s3": ["S3"],
    "s3api": ["S3"],
    "sagemaker": ["SageMaker"],
    "ses": ["SES"],
    "ssm": ["SSM", "Systems Manager"],
    "stepfunctions": ["Step Functions"],
    "sts": ["STS"],
}
# things as the documentation calls them, by service, and as users do; the first group that fits is used
THINGS: dict[str, list[tuple[str, list[str]]]] = {
    "acm": [("certificate", ["SSL certificate", "certificate", "cert"])],
    "cloudformation": [("stack", ["stack", "CloudFormation stack"])],
    "cloudwatch": [("alarm", ["alarm", "CloudWatch alarm"])],
    "dynamodb": [("table", ["table", "DynamoDB table"]), ("item", ["item", "row", "entry"])],
    "ec2": [
        ("(?:Amazon )?EC2 instance", ["instance", "server", "EC2 instance", "VM", "machine"]),
        ("(?<!DB )instance", ["instance", "server", "EC2 instance", "machine"]),
        ("Elastic IP address", ["Elastic IP", "static IP"]),
        ("AMI", ["AMI", "image", "machine image"]),
        ("(?:Amazon )?EBS volume", ["volume", "disk", "EBS volume"]),
        ("volume", ["volume", "disk", "EBS volume"]),
        ("Spot Instance", ["spot instance"]),
    ],
    "ecr": [("repository", ["repository", "repo", "ECR repo"])],
    "ecs": [("cluster", ["cluster", "ECS cluster"]), ("task", ["task", "container", "ECS task"])],
    "eks": [("(?:Amazon )?EKS cluster", ["cluster", "Kubernetes cluster", "EKS cluster"])],
    "elbv2": [("load balancer", ["load balancer", "LB", "ALB"])],
    "iam": [("(?:an )?IAM (?=user|role|group|policy)", ["", "IAM "])],
    "kms": [("(?:AWS )?KMS key", ["key", "KMS key", "encryption key"])],
    "lambda": [
        ("(?:AWS )?Lambda function", ["Lambda function", "Lambda", "function"]),
        ("function", ["Lambda", "function"]),
    ],
    "logs": [("log group", ["log group", "logs"])],
    "rds": [
        ("DB instance", ["database", "DB", "DB instance", "RDS instance"]),
        ("DB cluster", ["DB cluster", "cluster"]),
    ],
    "route53": [("hosted zone", ["hosted zone", "DNS zone", "domain"])],
    "s3": [
        ("(?:an )?S3 object", ["file", "S3 file"]),
        ("objects?(?: and prefixes)?", ["files"]),
        ("prefixes and objects", ["files"]),
        ("contents", ["files"]),
        ("the specified bucket and key", ["the bucket"]),
        ("pre-signed URL", ["pre-signed URL", "temporary link", "download link"]),
    ],
    "s3api": [("object", ["file", "object"]), ("bucket", ["bucket", "S3 bucket"])],
    "secretsmanager": [("secret", ["secret"])],
    "sns": [("(?:Amazon )?SNS topic", ["topic", "SNS topic"]), ("topic", ["topic", "SNS topic"])],
    "sqs": [("(?:message )?queue", ["queue", "SQS queue"])],
    "ssm": [("parameter", ["parameter", "SSM parameter"])],
}
VERBS = {
    "accept": ["accept", "approve"],
    "add": ["add", "put"],
    "allocate": ["allocate", "get", "reserve"],
    "associate": ["associate", "link", "connect"],
    "attach": ["attach", "add", "connect"],
    "authorize": ["authorize", "allow"],
    "cancel": ["cancel", "abort"],
    "change": ["change", "edit", "set"],
    "copy": ["copy"],
    "create": ["create", "make", "set up", "add", "create me"],
    "delete": ["delete", "remove", "get rid of", "drop"],
    "deregister": ["deregister", "remove"],
    "describe": ["describe", "show", "show me", "get details of", "look up"],
    "detach": ["detach", "remove", "disconnect"],
    "disable": ["disable", "turn off", "switch off"],
    "disassociate": ["disassociate", "unlink", "disconnect"],
    "display": ["display", "show", "show me"],
    "download": ["download", "get", "fetch"],
    "enable": ["enable", "turn on", "switch on"],
    "export": ["export"],
    "find": ["find", "look for"],
    "get": ["get", "show", "fetch", "show me", "look up"],
    "import": ["import"],
    "invoke": ["invoke", "run", "call"],
    "launch": ["launch", "start"],
    "list": ["list", "show", "get", "show me", "list all"],
    "modify": ["modify", "change", "edit", "update"],
    "move": ["move"],
    "publish": ["publish", "send"],
    "put": ["put", "set", "add"],
    "reboot": ["reboot", "restart"],
    "register": ["register", "add"],
    "reject": ["reject", "refuse"],
    "release": ["release", "give back"],
    "remove": ["remove", "delete", "take away"],
    "reset": ["reset"],
    "restore": ["restore", "bring back"],
    "retrieve": ["retrieve", "get", "show", "fetch", "show me"],
    "return": ["get", "show"],
    "revoke": ["revoke", "take back"],
    "run": ["run", "start"],
    "send": ["send"],
    "set": ["set", "change"],
    "start": ["start"],
    "stop": ["stop", "shut down"],
    "sync": ["sync", "synchronize"],
    "tag": ["tag", "put tags on"],
    "terminate": ["terminate", "kill", "shut down for good"],
    "test": ["test", "try"],
    "untag": ["untag", "remove tags from"],
    "update": ["update", "change", "edit"],
    "upload": ["upload", "put"],
    "view": ["view", "show", "show me", "see"],
    "wait": ["wait"],
}
READING = {"describe", "display", "get", "list", "retrieve", "return", "view"}  # verbs that one can ask with "what"
POLITE = [
    "please {}",
    "{} please",
    "can you {}?",
    "could you {}",
    "how do I {}?",
    "how can I {}",
    "I want to {}",
    "I need to {}",
]
NAMED = ["{} in {}", "{} ({})", "{} on {}"]
GIVEN = ["{}: {}", "{} {}", "{} ({})", "{}, {}", "{} - {}", "{} for {}", "{} with {}", "{}; use {}"]


@cache
def names_of(service: str) -> tuple[str, ...]:
    """Return what users call a service: SAID, or the names in its service model without "Amazon" and "AWS"."""
    if service in SAID:
        return tuple(SAID[service])
    try:
        data = Loader(include_default_search_paths=True).load_service_model(RENAMED.get(service, service), "service-2")
    except UnknownServiceError:
        return (service,)
    meta = data["metadata"]
    short = re.sub(r"^(Amazon|AWS) ", "", meta.get("serviceAbbreviation") or meta["serviceFullName"])
    return tuple(dict.fromkeys([short, meta["serviceId"]]))


def split_verb(request: str) -> tuple[str, str]:
    """Return (verb, rest) of a request; the verb is in its base form, and empty if the request starts with none.

    "Creates a user", "Creating a user" and "Create a user" have the verb "create".
    """
    first, _, rest = request.partition(" ")
    word = first.lower()
    forms = [word, word[:-1], word[:-2], re.sub("ies$", "y", word)]
    forms += [word[:-3], word[:-3] + "e", re.sub(r"(.)\1ing$", r"\1", word)] if word.endswith("ing") else []
    return next(((form, rest) for form in forms if form in VERBS), ("", request))


def words_of(text: str) -> set[str]:
    """Return the words of a request that can tell services apart: no verbs, no short ones, in the singular."""
    found = (word.removesuffix("s") for word in re.findall(r"[a-z][a-z0-9-]{3,}", text.lower()))
    return {word for word in found if word not in VERBS}


def telling_words(requests: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return {word: service} of words that tell the service: at least three requests have it, four of five of that
    service. `requests`: (service, request).
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for service, request in requests:
        for word in words_of(request):
            counts[word][service] += 1
    telling = {}
    for word, found in counts.items():
        service, most = found.most_common(1)[0]
        if found.total() >= 3 and most >= 0.8 * found.total():
            telling[word] = service
    return telling


def is_told(text: str, service: str, telling: Mapping[str, str]) -> bool:
    """Return whether a request makes its service known without naming it."""
    own = any(telling.get(word) == service for word in words_of(text))
    return own or any(name.lower() in text.lower() for name in names_of(service))


def call_things(text: str, service: str, lot: random.Random) -> str:
    """Return a text with one thing of the service called as users do, if the text has one."""
    for pattern, said in THINGS.get(service, []):
        if match := re.search(rf"\b{pattern}(s?)\b", text, re.IGNORECASE):
            thing = lot.choice(said)
            plural = (match[1] or "") if thing and not thing.endswith("s") else ""
            thing = re.sub(r"y$", "ies", thing) if plural and thing.endswith("y") else thing + plural
            return re.sub(r"\s+", " ", text[: match.start()] + thing + text[match.end() :])
    return text


def ask(request: str, service: str, lot: random.Random) -> str:
    """Return a request as a user would phrase it, without values and without the service."""
    verb, rest = split_verb(request)
    if lot.random() < 0.7:
        rest = call_things(rest, service, lot)
    if lot.random() < 0.5:
        rest = re.sub(r"^(an?|the|your|all|the specified) ", lot.choice(["", "my ", "the ", "a "]), rest, count=1)
    rest = re.sub(r"\b(?:the |a |an )?specified (?!by\b)", "the ", rest).replace("your ", "my ")
    if not verb:
        return rest if rest[:2].isupper() else rest[:1].lower() + rest[1:]
    thing = re.sub(r"^(all|the|my|a|an) ", "", rest)
    if verb in READING and re.search(r"s$", re.split(" (?:for|of|in|with) ", thing)[0]) and lot.random() < 0.25:
        return lot.choice([f"what {thing} are there?", f"which {thing} do I have?", f"what are my {thing}?"])
    return f"{lot.choice(VERBS[verb]) if lot.random() < 0.7 else verb} {rest}".strip()


def phrase(request: str, service: str, values: Sequence[str], lot: random.Random, telling: Mapping[str, str]) -> str:
    """Return a request as a user would type it, with the values that the command needs.

    The service is named, unless other words tell it; then it is named in two of five requests. `telling`: see
    `telling_words`.
    """
    asked = ask(request, service, lot)
    if lot.random() < 0.2:
        asked = asked.lower()
    question = asked.endswith("?")
    name = ""
    if not is_told(asked, service, telling) or lot.random() < 0.4:
        name = lot.choice(names_of(service))
        name = "" if name.lower() in asked.lower() else name.lower() if lot.random() < 0.2 else name
    early = not question and lot.random() < 0.4  # the service before the values
    if name and early:
        asked = lot.choice(NAMED).format(asked, name)
    if values:
        listed = lot.choice([", ", ", ", " and " if len(values) == 2 else " "]).join(values)
        asked = f"{asked} {listed}" if question else lot.choice(GIVEN).format(asked, listed)
    asked = " ".join(asked.split())
    if name and not early:
        if question or lot.random() < 0.3:
            return f"{name}: {asked}"
        asked = lot.choice(NAMED[:2]).format(asked, name)
    if lot.random() < 0.3 and not question and not request.partition(" ")[0].endswith("ing"):
        return lot.choice(POLITE).format(re.sub("^(show|create) me ", r"\1 ", asked))
    if not values and lot.random() < 0.3:
        return asked[:1].upper() + asked[1:]
    return asked


# placeholders of the documentation, which name nothing in particular: other names do as well
NAMES = "api app billing blog data dev images legacy main orders payments prod reports search shop staging web".split()  # noqa: SIM905
FILES = ["report.pdf", "data.csv", "backup.zip", "photo.jpg", "notes.txt", "index.html"]
PLACEHOLDER = re.compile(
    r"(?<![\w-])(?:amzn-s3-demo-[\w-]+|(?:my|My|MY)(?=[-_A-Z])[A-Za-z0-9_-]*|test\d?\.txt)(?![\w-])|(?<=-)[0-9a-f]{8,17}(?![\w-])"
)


def rename(texts: Sequence[str], lot: random.Random) -> list[str]:
    """Return the texts with the documentation's placeholder names replaced by others, the same one in all of them."""
    new: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        old = match[0]
        if old not in new:
            if re.fullmatch("[0-9a-f]{8,17}", old):
                new[old] = "".join(lot.choices("0123456789abcdef", k=len(old)))
            elif old.startswith("test"):
                new[old] = lot.choice(FILES)
            elif old.startswith("amzn"):
                new[old] = f"{lot.choice(NAMES)}-{lot.choice(NAMES)}-{lot.randrange(100)}"
            else:
                name = lot.choice(NAMES)
                new[old] = (name.capitalize() if old[:2] in ("My", "MY") or old[2:3].isupper() else name) + old[2:]
        return new[old]

    return [PLACEHOLDER.sub(other, text) for text in texts]
