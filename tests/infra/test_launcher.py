"""Ray's cluster launcher takes the files of infra/launcher, and starts what they ask for."""

import json
from pathlib import Path

import boto3
import botocore.exceptions
import jsonschema
import pytest
import ray
import yaml
from moto import mock_aws
from ray.autoscaler._private import commands
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.util import prepare_config, validate_config

LAUNCHER = Path(__file__).parents[2] / "infra" / "launcher"
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_the_file_is_what_rays_schema_allows(name):
    config = yaml.safe_load((LAUNCHER / f"{name}.yaml").read_text())
    jsonschema.validate(config, SCHEMA)
    assert config["head_node_type"] in config["available_node_types"]
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(config | {"max_worker": 3}, SCHEMA)


@pytest.fixture
def aws(tmp_path, monkeypatch):
    """Yield a client of an EC2 that exists in this process alone, and the file with its ids."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(LAUNCHER.parents[1])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a token")
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-west-2")
        (vpc, *_) = ec2.describe_vpcs()["Vpcs"]
        group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc["VpcId"])
        boto3.client("iam").create_instance_profile(InstanceProfileName="memscan")
        text = (LAUNCHER / "aws.yaml").read_text().replace("sg-REPLACE", group["GroupId"])
        image = ec2.describe_images()["Images"][0]["ImageId"]
        yield ec2, yaml.safe_load(text.replace("ami-REPLACE", image))


def started(config):
    """Start a node of every kind with the code that `ray up` runs; return what was settled on."""
    config = prepare_config(config)
    validate_config(config)
    config = commands._bootstrap_config(config, no_config_cache=True)
    provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    for name, kind in config["available_node_types"].items():
        tags = {"ray-node-type": "worker", "ray-user-node-type": name}
        provider.create_node(kind["node_config"], tags, 1)
    return config


def test_the_launcher_starts_a_head_and_a_spot_worker(aws):
    ec2, asked = aws
    kinds = started(asked)["available_node_types"]
    assert (kinds["head"]["resources"]["CPU"], kinds["head"]["max_workers"]) == (0, 0)
    assert (kinds["spot"]["resources"]["CPU"], kinds["spot"]["resources"]["GPU"]) == (8, 1)
    found = {
        each["InstanceType"]: each
        for reservation in ec2.describe_instances()["Reservations"]
        for each in reservation["Instances"]
    }
    assert set(found) == {"m6i.xlarge", "g5.2xlarge"}
    assert found["g5.2xlarge"]["InstanceLifecycle"] == "spot"
    assert "InstanceLifecycle" not in found["m6i.xlarge"]
    for instance in found.values():
        assert [group["GroupName"] for group in instance["SecurityGroups"]] == ["g"]
        assert instance["IamInstanceProfile"]["Arn"].endswith("/memscan")
        (disk,) = instance["BlockDeviceMappings"]
        (volume,) = ec2.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
        assert (volume["Size"], volume["Encrypted"]) == (200, True)


def test_a_misspelt_field_of_an_instance_starts_nothing(aws):
    _, asked = aws
    asked["available_node_types"]["spot"]["node_config"]["InstanceMarketOption"] = {}
    with pytest.raises(botocore.exceptions.ParamValidationError, match="InstanceMarketOption"):
        started(asked)
